//! One child of the agent and its streams.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::container::report::Reports;
use crate::container::spawn::Spawned;
use crate::sys::io::readable_bytes;
use crate::sys::task::Child;

/// How long after a process's end its streams may stay open in the hands of others; docker
/// waits as long.
const STREAMS_OUTLIVE: Duration = Duration::from_secs(2);

/// How long a later process may take until its program runs. Only a container that hangs
/// its own files can make it last, and it must not hold up what is queued behind it.
const START_WITHIN: Duration = Duration::from_secs(30);

/// What a child is to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The container's first process.
    Main,
    /// A later one, by its name.
    Exec(String),
    /// The agent's own work for the host.
    Work,
}

/// A child that does not run its program yet.
#[derive(Debug)]
pub struct Starting {
    /// What it reports.
    pub reports: Reports,
    /// Its warnings, once it said that it is about to run the program.
    pub ready: Option<Vec<String>>,
}

/// A stream towards the process.
#[derive(Debug)]
pub struct Input {
    /// Non-blocking.
    pub fd: OwnedFd,
    /// Whether writing may succeed.
    pub writable: bool,
    /// Whether the pipe was made larger.
    pub grown: bool,
}

/// A stream from the process.
#[derive(Debug)]
pub struct Output {
    /// Non-blocking.
    pub fd: OwnedFd,
    /// Whether reading may succeed.
    pub readable: bool,
    /// Whether a short read says nothing: a terminal, or a pipe whose writers are gone.
    pub read_to_end: bool,
    /// How much more is taken from it, once that is bounded.
    pub limit: Option<usize>,
    /// Whether the pipe was made larger.
    pub grown: bool,
}

impl Output {
    fn new(fd: OwnedFd, terminal: bool) -> Self {
        Self {
            fd,
            readable: false,
            read_to_end: terminal,
            limit: None,
            grown: terminal,
        }
    }

    /// Notes an event.
    pub fn ready(&mut self, input: bool, hangup: bool) {
        self.readable |= input;
        self.read_to_end |= hangup;
    }
}

/// A child.
#[derive(Debug)]
pub struct Process {
    /// What it is to the host.
    pub role: Role,
    /// Its number and descriptor.
    pub child: Rc<Child>,
    /// Until its program runs.
    pub setup: Option<Starting>,
    /// Whether its program never ran; the host has been told.
    pub failed: bool,
    /// The connection that carries its streams.
    pub connection: Option<u64>,
    /// Standard input, until it is closed.
    pub stdin: Option<Input>,
    /// Standard output or terminal, until its end.
    pub stdout: Option<Output>,
    /// Standard error, until its end.
    pub stderr: Option<Output>,
    /// The terminal, for resizes.
    pub terminal: Option<OwnedFd>,
    /// How it ended.
    pub exit: Option<i32>,
    /// When it is killed if its program does not run, and when its streams are cut off
    /// after its end.
    pub deadline: Option<Instant>,
    /// Whose turn it is among the two outputs.
    pub stderr_first: bool,
}

impl Process {
    /// The process that was just forked.
    pub fn new(role: Role, connection: u64, spawned: Spawned) -> Self {
        let deadline = matches!(role, Role::Exec(_)).then(|| Instant::now() + START_WITHIN);
        let mut process = Self {
            role,
            deadline,
            child: spawned.child,
            setup: Some(Starting {
                reports: spawned.reports,
                ready: None,
            }),
            failed: false,
            connection: Some(connection),
            stdin: spawned.stdin.map(|fd| Input {
                fd,
                writable: true,
                grown: false,
            }),
            stdout: spawned.stdout.map(|fd| Output::new(fd, false)),
            stderr: spawned.stderr.map(|fd| Output::new(fd, false)),
            terminal: None,
            exit: None,
            stderr_first: false,
        };
        if let Some(master) = spawned.terminal
            && let Ok(copy) = master.try_clone()
        {
            process.attach_terminal(master, copy);
        }
        process
    }

    /// Makes a terminal's agent end (and a copy of it) the streams.
    pub fn attach_terminal(&mut self, master: OwnedFd, copy: OwnedFd) {
        self.terminal = master.try_clone().ok();
        self.stdin = Some(Input {
            fd: master,
            writable: true,
            grown: true,
        });
        self.stdout = Some(Output::new(copy, true));
    }

    /// Closes everything that leads to the process.
    pub fn close_streams(&mut self) {
        self.stdin = None;
        self.stdout = None;
        self.stderr = None;
        self.terminal = None;
    }

    /// Whether the host may still signal it.
    pub fn is_alive(&self) -> bool {
        self.exit.is_none()
    }

    /// Notes its end. Its terminal or pipes may still hold output, or be held by others.
    pub fn ended(&mut self, code: i32) {
        self.exit = Some(code);
        self.stdin = None;
        self.deadline = Some(Instant::now() + STREAMS_OUTLIVE);
    }

    /// From now on takes only what the streams hold already.
    pub fn limit_streams(&mut self) {
        self.deadline = None;
        for output in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            output.limit = Some(readable_bytes(output.fd.as_fd()).unwrap_or(0));
            output.readable = true;
        }
    }
}
