//! The agent's event loop: connections of the host on one side, processes on the other.
//!
//! Purpose: one thread waits for everything, so that forking is always safe, and nothing
//! that a process or the host does (or fails to do) can hold up anyone else.

mod children;
mod connection;
mod flow;
mod process;
mod requests;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::time::Instant;

use guest_agent::protocol::{AgentError, ErrorKind, Exec, Response};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{SockFlag, accept4};

use crate::container::cgroup::Cgroup;
use crate::container::launch::Common;
use crate::container::spawn::Container;
use crate::error::{Result, guest, reason};
use crate::storage::devices::Devices;
use crate::storage::layers::Merged;
use connection::{Connection, State};
use process::Process;

/// More connections at once are closed as they come.
const MAX_CONNECTIONS: usize = 4096;

/// Everything the agent was given and made at boot.
#[derive(Debug)]
pub struct Setup {
    /// Where requests come in; non-blocking.
    pub listener: OwnedFd,
    /// A connection under way that tells the host we listen; closed when it stands.
    pub ready: Option<OwnedFd>,
    /// The disks, once they were looked for; in tests on a host, those that are not virtio's.
    pub devices: Option<Rc<Devices>>,
    /// Share of every child.
    pub common: Common,
    /// The container's control group.
    pub cgroup: Cgroup,
}

/// What an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Listener,
    Children,
    Ready,
    Connection(u64),
    Reports(u64),
    Stdin(u64),
    Stdout(u64),
    Stderr(u64),
}

impl Source {
    fn token(self) -> u64 {
        let (kind, key) = match self {
            Self::Listener => (0, 0),
            Self::Children => (1, 0),
            Self::Ready => (2, 0),
            Self::Connection(key) => (3, key),
            Self::Reports(key) => (4, key),
            Self::Stdin(key) => (5, key),
            Self::Stdout(key) => (6, key),
            Self::Stderr(key) => (7, key),
        };
        key << 3 | kind
    }

    fn from_token(token: u64) -> Self {
        let key = token >> 3;
        match token & 7 {
            0 => Self::Listener,
            1 => Self::Children,
            2 => Self::Ready,
            3 => Self::Connection(key),
            4 => Self::Reports(key),
            5 => Self::Stdin(key),
            6 => Self::Stdout(key),
            _ => Self::Stderr(key),
        }
    }
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    epoll: Epoll,
    signals: SignalFd,
    setup: Setup,
    connections: BTreeMap<u64, Connection>,
    processes: BTreeMap<u64, Process>,
    /// Processes that may have more to do although no event will say so.
    busy: Vec<u64>,
    /// A descriptor to give up when there are no others.
    spare: Option<OwnedFd>,
    /// Keys are never used twice, so an event of something gone finds nothing.
    next_key: u64,
    scratch: Vec<u8>,
    merged: Option<Merged>,
    /// What any container needs is done, before its disks have anything on them.
    prepared: bool,
    /// Whether the writable layer is new and waits for a container.
    sealed: bool,
    container: Option<Container>,
    /// Sockets of the container that lead to the host.
    sockets: BTreeMap<String, UnixListener>,
    /// Processes to start when others have started, with their connections.
    queue: VecDeque<(u64, Box<Exec>)>,
    /// Connections that wait for the shutdown to finish.
    shutdown: Vec<u64>,
}

impl Agent {
    /// Prepares the loop; all signals are blocked already.
    pub fn new(setup: Setup) -> Result<Self> {
        let failed = |e| guest("cannot set up the event loop", reason(e));
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&mask, flags).map_err(failed)?;
        let agent = Self {
            spare: setup.common.null.try_clone().ok(),
            epoll,
            signals,
            setup,
            connections: BTreeMap::new(),
            processes: BTreeMap::new(),
            busy: Vec::new(),
            next_key: 1,
            scratch: flow::scratch(),
            merged: None,
            prepared: false,
            sealed: false,
            container: None,
            sockets: BTreeMap::new(),
            queue: VecDeque::new(),
            shutdown: Vec::new(),
        };
        let input = EpollFlags::EPOLLIN;
        agent.watch(agent.setup.listener.as_fd(), Source::Listener, input)?;
        agent.watch(agent.signals.as_fd(), Source::Children, input)?;
        if let Some(ready) = &agent.setup.ready {
            agent.watch(ready.as_fd(), Source::Ready, EpollFlags::EPOLLOUT)?;
        }
        Ok(agent)
    }

    fn watch(&self, fd: BorrowedFd<'_>, source: Source, events: EpollFlags) -> Result<()> {
        self.epoll
            .add(fd, EpollEvent::new(events, source.token()))
            .map_err(|e| guest("cannot watch a descriptor", reason(e)))
    }

    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    /// Serves until a failure that leaves nothing to serve with.
    pub fn run(&mut self) -> Result<std::convert::Infallible> {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(guest("cannot wait for events", reason(e))),
            };
            for event in events.iter().take(count) {
                self.dispatch(Source::from_token(event.data()), event.events());
            }
            for key in std::mem::take(&mut self.busy) {
                self.pump(key);
            }
            self.start_queued();
            self.enforce_deadlines();
        }
    }

    fn timeout(&self) -> EpollTimeout {
        if !self.busy.is_empty() {
            return EpollTimeout::ZERO;
        }
        let next = self.processes.values().filter_map(|p| p.deadline).min();
        next.map_or(EpollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now());
            // Rounded up, so that the deadline has passed when we wake.
            EpollTimeout::try_from(left.as_millis() as i64 + 1).unwrap_or(EpollTimeout::NONE)
        })
    }

    fn dispatch(&mut self, source: Source, events: EpollFlags) {
        let hangup = events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        let input = hangup || events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP);
        let output = hangup || events.contains(EpollFlags::EPOLLOUT);
        match source {
            Source::Listener => self.accept(),
            Source::Children => self.reap(),
            Source::Ready => self.setup.ready = None,
            Source::Connection(key) => {
                let Some(connection) = self.connections.get_mut(&key) else {
                    return;
                };
                connection.readable |= input;
                connection.writable |= output;
                let ended = hangup || events.contains(EpollFlags::EPOLLRDHUP);
                connection.ended |= ended;
                self.serve(key);
            }
            Source::Reports(key) => self.take_reports(key),
            Source::Stdin(key) => {
                if let Some(stdin) = self.processes.get_mut(&key).and_then(|p| p.stdin.as_mut()) {
                    stdin.writable |= output;
                    self.pump(key);
                }
            }
            Source::Stdout(key) => {
                if let Some(stdout) = self.processes.get_mut(&key).and_then(|p| p.stdout.as_mut()) {
                    stdout.ready(input, hangup);
                    self.pump(key);
                }
            }
            Source::Stderr(key) => {
                if let Some(stderr) = self.processes.get_mut(&key).and_then(|p| p.stderr.as_mut()) {
                    stderr.ready(input, hangup);
                    self.pump(key);
                }
            }
        }
    }

    fn accept(&mut self) {
        loop {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            match accept4(self.setup.listener.as_raw_fd(), flags).and_then(crate::sys::io::adopt) {
                Ok(fd) => self.admit(fd),
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(Errno::EMFILE | Errno::ENFILE) if self.spare.take().is_some() => {
                    // Out of descriptors: the spare one takes the connection and closes it,
                    // or it would wait for ever and keep us awake.
                    let refused = accept4(self.setup.listener.as_raw_fd(), flags);
                    drop(refused.and_then(crate::sys::io::adopt));
                    self.spare = self.setup.common.null.try_clone().ok();
                    // Other events come first now: one of them may free descriptors.
                    return;
                }
                Err(_) => return,
            }
        }
    }

    fn admit(&mut self, fd: OwnedFd) {
        if self.connections.len() >= MAX_CONNECTIONS {
            return;
        }
        let key = self.key();
        let events = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        if self
            .watch(fd.as_fd(), Source::Connection(key), events)
            .is_ok()
        {
            self.connections.insert(key, Connection::new(fd));
        }
    }

    /// Goes on with a connection after an event.
    fn serve(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        match connection.state {
            State::Request => match connection.read_request(&mut self.scratch) {
                Ok(None) => {}
                Ok(Some(envelope)) => {
                    connection.state = State::Waiting;
                    self.handle(key, envelope);
                }
                Err(_) => drop(self.connections.remove(&key)),
            },
            State::Waiting => {}
            State::Streaming(process) => self.pump(process),
            State::Draining => {
                if connection.flush().is_err() || connection.is_flushed() {
                    self.connections.remove(&key);
                }
            }
        }
    }

    /// Answers a request; an error ends the connection once it is sent.
    fn respond(&mut self, key: u64, result: Result<Response>) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        let response = result.unwrap_or_else(Response::Error);
        connection.respond(&response);
        if !matches!(connection.state, State::Streaming(_)) {
            connection.state = State::Draining;
            self.serve(key);
        }
    }
}

/// The failure of a request that names a process which is not there.
fn no_such_process(message: impl Into<String>) -> AgentError {
    AgentError {
        kind: ErrorKind::NoSuchProcess,
        message: message.into(),
    }
}
