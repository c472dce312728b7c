//! What each request does.

use std::os::fd::AsFd;
use std::rc::Rc;

use guest_agent::protocol::{
    AgentError, ErrorKind, Exec, MAIN_PROCESS, Prepare, Request, Resize, Response, Signal, Start,
    Storage, Task, VERSION, Work,
};

use super::connection::RequestFrame;
use super::process::{Process, Role};
use super::{Agent, Source, no_such_process};
use crate::container::relay;
use crate::container::spawn::{self, Container, Spawned};
use crate::container::work::Beside;
use crate::error::{Result, guest, invalid, reason};
use crate::network;
use crate::storage::devices::Devices;
use crate::storage::{binfmt, layers};
use crate::sys;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::epoll::EpollFlags;

/// Children that are set up at the same time.
const MAX_STARTING: usize = 8;

/// How long a process that has failed may take to end.
const ENDS_WITHIN_MS: u16 = 2000;

/// The largest signal number.
const MAX_SIGNAL: i32 = 64;

const DONE: Response = Response::Ok {
    pid: 0,
    warnings: Vec::new(),
};

impl Agent {
    /// Does what a connection asks for; what takes time answers later.
    pub(super) fn handle(&mut self, connection: u64, frame: RequestFrame) {
        let envelope = match frame {
            RequestFrame::Envelope(envelope) => envelope,
            RequestFrame::OtherVersion(version) => {
                return self.respond(connection, Err(version_error(version)));
            }
            RequestFrame::Unreadable(why) => {
                let message = format!("the agent cannot read the request: {why}");
                return self.respond(connection, Err(invalid(message)));
            }
        };
        if envelope.version != VERSION {
            return self.respond(connection, Err(version_error(envelope.version)));
        }
        let result = match envelope.request {
            Request::Prepare(prepare) => self.prepare(&prepare).map(|()| Some(DONE)),
            Request::Assemble(storage) => self.assemble(&storage).map(|()| Some(DONE)),
            Request::Start(start) => self.start(connection, &start),
            Request::Exec(exec) => {
                self.queue.push_back((connection, exec));
                return self.start_queued();
            }
            Request::Work(work) => self.work(connection, &work),
            Request::Network(interface) => network::configure(&interface).map(|()| Some(DONE)),
            Request::Seal => self.seal().map(|()| Some(DONE)),
            Request::Freeze(on) => self.freeze(on).map(|()| Some(DONE)),
            Request::LimitProcesses(limit) => {
                let limited = self.setup.cgroup.limit_processes(limit);
                limited.map(|()| Some(DONE))
            }
            Request::Signal(signal) => self.signal(&signal).map(|()| Some(DONE)),
            Request::Resize(resize) => self.resize(&resize).map(|()| Some(DONE)),
            Request::Shutdown => self.shut_down(connection),
        };
        if let Some(result) = result.transpose() {
            self.respond(connection, result);
        }
    }

    /// The disks, which are looked for once.
    fn devices(&mut self) -> Result<Rc<Devices>> {
        let devices = match self.setup.devices.take() {
            Some(devices) => devices,
            None => Rc::new(Devices::scan()?),
        };
        Ok(self.setup.devices.insert(devices).clone())
    }

    /// Does what can be done before the container is known.
    fn prepare(&mut self, prepare: &Prepare) -> Result<()> {
        if self.prepared {
            return Err(invalid("this guest is prepared already"));
        }
        // A child that has failed is ending.
        for process in self.processes.values().filter(|p| p.failed) {
            let mut end = [PollFd::new(process.child.pidfd.as_fd(), PollFlags::POLLIN)];
            let ended = poll(&mut end, ENDS_WITHIN_MS);
            ended.map_err(|e| guest("cannot wait for a process", reason(e)))?;
        }
        self.reap();
        if self.processes.values().any(Process::is_alive) {
            return Err(invalid("this guest has its container already"));
        }
        if let Some(merged) = self.merged.take() {
            merged.discard()?;
        }
        self.processes.clear();
        let devices = self.devices()?;
        binfmt::register(prepare.emulators.as_ref(), &prepare.binfmt, &devices)?;
        for interface in &prepare.interfaces {
            network::take_up(*interface)?;
        }
        self.prepared = true;
        Ok(())
    }

    fn assemble(&mut self, storage: &Storage) -> Result<()> {
        if self.merged.is_some() {
            return Err(invalid("this guest has its root already"));
        }
        self.put_together(storage)?;
        self.sealed = true;
        Ok(())
    }

    fn put_together(&mut self, storage: &Storage) -> Result<()> {
        let devices = self.devices()?;
        if self.prepared {
            devices.find_partitions(&storage.layers)?;
        }
        binfmt::register(storage.emulators.as_ref(), &storage.binfmt, &devices)?;
        self.merged = Some(layers::assemble(storage, &devices, false)?);
        Ok(())
    }

    fn start(&mut self, connection: u64, start: &Start) -> Result<Option<Response>> {
        if self.merged.is_some() && !self.sealed {
            return Err(invalid("this guest has its container already"));
        }
        if start.clock_ns != 0 {
            sys::system::set_clock(start.clock_ns)
                .map_err(|e| guest("cannot set the clock", reason(e)))?;
        }
        if !start.entropy.is_empty() {
            crate::boot::add_entropy(&start.entropy)?;
        }
        for change in &start.hardware {
            network::readdress(*change)?;
        }
        for interface in &start.network {
            network::configure(interface)?;
        }
        if self.merged.is_none() {
            self.put_together(&start.storage)?;
        }
        self.sealed = false;
        self.setup.cgroup.limit(&start.spec.linux.resources)?;
        self.sockets = relay::listen(&start.sockets)?;
        let spawned = spawn::start(start, &self.setup.common, &self.setup.cgroup)?;
        self.container = Some(Container {
            init: Rc::clone(&spawned.child),
            devpts: None,
        });
        self.adopt(connection, Role::Main, spawned)
    }

    /// Starts what is queued, few at a time: each child that is being set up is a copy of
    /// the agent, and hundreds of them at once would only push each other out of memory.
    pub(super) fn start_queued(&mut self) {
        while self
            .processes
            .values()
            .filter(|p| p.setup.is_some())
            .count()
            < MAX_STARTING
        {
            let Some((connection, exec)) = self.queue.pop_front() else {
                return;
            };
            if let Some(result) = self.exec(connection, &exec).transpose() {
                self.respond(connection, result);
            }
        }
    }

    fn exec(&mut self, connection: u64, exec: &Exec) -> Result<Option<Response>> {
        let container = self.running()?;
        if exec.id.is_empty() || exec.id == MAIN_PROCESS {
            return Err(invalid(format!("{:?} cannot name a process", exec.id)));
        }
        let role = Role::Exec(exec.id.clone());
        if self.processes.values().any(|p| p.role == role && !p.failed) {
            return Err(invalid(format!("there is a process {} already", exec.id)));
        }
        let spawned = spawn::exec(exec, container, &self.setup.common, &self.setup.cgroup)?;
        self.adopt(connection, role, spawned)
    }

    fn work(&mut self, connection: u64, work: &Work) -> Result<Option<Response>> {
        let merged = match self.merged.take() {
            Some(merged) => merged,
            None => {
                let (storage, devices) = (&work.storage, self.devices()?);
                if matches!(work.task, Task::Fill { .. }) {
                    // A container will follow.
                    binfmt::register(storage.emulators.as_ref(), &storage.binfmt, &devices)?;
                    self.sealed = true;
                }
                layers::assemble(storage, &devices, true)?
            }
        };
        let merged = self.merged.insert(merged);
        let listener =
            match &work.task {
                Task::Relay { socket } => Some(self.sockets.get(socket).ok_or_else(|| {
                    no_such_process(format!("the container has no socket {socket}"))
                })?),
                _ => None,
            };
        let beside = Beside {
            cgroup: self.setup.cgroup.path(),
            listener,
        };
        let spawned = spawn::work(work, self.container.as_ref(), merged, beside)?;
        self.adopt(connection, Role::Work, spawned)
    }

    /// What was written becomes a layer, and the guest is ready for another container.
    fn seal(&mut self) -> Result<()> {
        if self.processes.values().any(Process::is_alive) {
            return Err(invalid("something still runs on the writable layer"));
        }
        let merged = self.merged.as_mut();
        merged
            .ok_or_else(|| invalid("there is no writable layer yet"))?
            .seal()?;
        self.processes
            .retain(|_, process| process.role != Role::Main);
        self.container = None;
        self.sealed = true;
        Ok(())
    }

    fn freeze(&self, on: bool) -> Result<()> {
        self.running()?;
        self.setup.cgroup.freeze(on)
    }

    /// Takes a forked child into the loop; the connection is answered when it has started.
    fn adopt(&mut self, connection: u64, role: Role, spawned: Spawned) -> Result<Option<Response>> {
        let key = self.key();
        let process = Process::new(role, connection, spawned);
        self.processes.insert(key, process);
        let Some(process) = self.processes.get(&key) else {
            return Ok(None);
        };
        if let Some(setup) = &process.setup {
            self.watch(
                setup.reports.fd(),
                Source::Reports(key),
                EpollFlags::EPOLLIN,
            )?;
        }
        self.watch_streams(key);
        Ok(None)
    }

    fn running(&self) -> Result<&Container> {
        let main = self.processes.values().find(|p| p.role == Role::Main);
        match (&self.container, main) {
            (Some(container), Some(main)) if main.setup.is_none() && !main.failed => Ok(container),
            _ => Err(no_such_process("the container is not running")),
        }
    }

    fn named(&self, name: &str) -> Result<&Process> {
        let process = self.processes.values().find(|p| match &p.role {
            Role::Main => name == MAIN_PROCESS,
            Role::Exec(id) => id == name,
            Role::Work => false,
        });
        let usable = process.filter(|p| p.is_alive() && p.setup.is_none() && !p.failed);
        usable.ok_or_else(|| no_such_process(format!("no process {name} is running")))
    }

    fn signal(&self, signal: &Signal) -> Result<()> {
        let number = signal.signal;
        if !(0..=MAX_SIGNAL).contains(&number) {
            return Err(invalid(format!("{number} is not the number of a signal")));
        }
        let process = self.named(&signal.process)?;
        sys::task::signal(process.child.pidfd.as_fd(), number).map_err(|e| {
            guest(
                format!("cannot signal process {}", signal.process),
                reason(e),
            )
        })
    }

    fn resize(&self, resize: &Resize) -> Result<()> {
        let process = self.named(&resize.process)?;
        let Some(terminal) = &process.terminal else {
            return Err(invalid(format!(
                "process {} has no terminal",
                resize.process
            )));
        };
        sys::io::set_window_size(terminal.as_fd(), resize.size.rows, resize.size.columns)
            .map_err(|e| guest("cannot resize the terminal", reason(e)))
    }

    fn shut_down(&mut self, connection: u64) -> Result<Option<Response>> {
        self.setup.cgroup.kill()?;
        for process in self.processes.values().filter(|p| p.is_alive()) {
            // The process may be ending by itself at this moment.
            let _ = sys::task::signal(process.child.pidfd.as_fd(), libc::SIGKILL);
        }
        self.shutdown.push(connection);
        self.finish_shutdown();
        Ok(None)
    }

    /// Answers the shutdowns when nothing runs any more.
    pub(super) fn finish_shutdown(&mut self) {
        if self.shutdown.is_empty() || self.processes.values().any(Process::is_alive) {
            return;
        }
        let result = match self.merged.take() {
            Some(merged) => merged.take_apart(),
            None => Ok(()),
        };
        for connection in std::mem::take(&mut self.shutdown) {
            self.respond(connection, result.clone().map(|()| DONE));
        }
    }
}

fn version_error(version: u32) -> AgentError {
    AgentError {
        kind: ErrorKind::Version,
        message: format!(
            "the host speaks version {version} of the agent's protocol, this guest {VERSION}"
        ),
    }
}
