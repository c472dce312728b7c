//! A container's files, whether it runs or not, read and written by an agent that has them
//! mounted: the container's own when it runs, else one in a guest that is started for that.
//!
//! No file system that a guest wrote is ever read by the host: neither by its kernel nor by
//! hull, which sees archives only.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use guest_agent::protocol::{
    AGENT_PORT, Exit, FrameKind, Request, Storage, Task, Work, read_frame, write_frame,
};
use serde::de::DeserializeOwned;
use vmm::{Event, Machine};

use super::client::{self, ClientError};
use super::control::Attach;
use super::guest::{self, GuestError};
use super::launch::{self, LaunchError};
use super::record::Container;
use crate::store::Store;

/// Bytes of standard input in one frame.
const CHUNK: usize = 128 << 10;
/// The most that is kept of what the agent says about a failure.
const MAX_MESSAGE: usize = 4096;

/// Why files cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The running container cannot be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The guest for it cannot be put together.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The guest for it did not boot.
    #[error("the guest that reads the container's files did not boot: {0}")]
    Boot(String),
    /// The agent refused or cannot be understood.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The agent tried and failed.
    #[error("{0}")]
    Failed(String),
    /// The guest is gone.
    #[error("the guest ended before the container's files were read or written")]
    Truncated,
    /// Writing or reading on the host failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The files of one container.
#[derive(Debug)]
pub struct Files<'a> {
    store: &'a Store,
    container: &'a Container,
    own: Option<OwnGuest>,
}

/// A guest that was started for the files of a container that does not run.
#[derive(Debug)]
struct OwnGuest {
    machine: Machine,
    storage: Storage,
    _lock: File,
}

impl<'a> Files<'a> {
    /// Makes the files reachable.
    pub fn open(store: &'a Store, container: &'a Container) -> Result<Self, FilesError> {
        let own = match container.state.status.is_live() {
            true => None,
            false => Some(OwnGuest::start(store, container)?),
        };
        Ok(Self {
            store,
            container,
            own,
        })
    }

    fn begin(&self, task: Task) -> Result<UnixStream, FilesError> {
        let (mut stream, storage) = match &self.own {
            None => (
                client::agent(self.store, self.container)?,
                Storage::default(),
            ),
            Some(own) => {
                let stream = own.machine.connect(AGENT_PORT);
                let stream = stream.map_err(|error| FilesError::Boot(error.to_string()))?;
                (stream, own.storage.clone())
            }
        };
        guest::ask(&mut stream, Request::Work(Box::new(Work { storage, task })))?;
        Ok(stream)
    }

    /// What a task gives, as it comes.
    pub fn read(&self, task: Task) -> Result<Output, FilesError> {
        Ok(Output::new(self.begin(task)?))
    }

    /// Copies what a task gives to `out`.
    pub fn copy_to(&self, task: Task, out: &mut impl Write) -> Result<u64, FilesError> {
        let mut output = self.read(task)?;
        let copied = io::copy(&mut output, out).map_err(FilesError::Io);
        // What the agent says explains an end that came too early.
        output.finish()?;
        copied
    }

    /// Carries out a task that gives nothing.
    pub fn run(&self, task: Task) -> Result<(), FilesError> {
        self.copy_to(task, &mut io::sink()).map(drop)
    }

    /// The one value that a task gives.
    pub fn value<T: DeserializeOwned>(&self, task: Task) -> Result<T, FilesError> {
        let mut text = Vec::new();
        self.copy_to(task, &mut text)?;
        parse(&text)
    }

    /// The values that a task gives, one per line.
    pub fn values<T: DeserializeOwned>(&self, task: Task) -> Result<Vec<T>, FilesError> {
        let mut text = Vec::new();
        self.copy_to(task, &mut text)?;
        let lines = text.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        lines.map(parse).collect()
    }

    /// Carries out a task that takes an archive, which `fill` writes.
    pub fn write(
        &self,
        task: Task,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), FilesError> {
        let stream = self.begin(task)?;
        let mut input = Input(stream.try_clone()?);
        let filled = fill(&mut input).and_then(|()| input.close());
        let done = Output::new(stream).finish();
        match filled {
            // The agent stopped reading: it says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => done,
            Err(error) => Err(error.into()),
            Ok(()) => done,
        }
    }

    /// Lets go of the files; what was written is on the container's disk then.
    pub fn close(self) -> Result<(), FilesError> {
        let Some(mut own) = self.own else {
            return Ok(());
        };
        let stream = own.machine.connect(AGENT_PORT);
        let mut stream = stream.map_err(|error| FilesError::Boot(error.to_string()))?;
        guest::ask(&mut stream, Request::Shutdown)?;
        own.machine.kill();
        Ok(())
    }
}

impl OwnGuest {
    fn start(store: &Store, container: &Container) -> Result<Self, FilesError> {
        let lock = launch::take_lock(store, container)?;
        let mut plan = launch::plan(store, container, Attach::default(), None)?;
        plan.machine.interfaces.clear();
        let boot = |error: &dyn std::fmt::Display| FilesError::Boot(error.to_string());
        let mut machine = Machine::start(&plan.machine).map_err(|error| boot(&error))?;
        match machine.next_event() {
            Ok(Event::Ready) => {}
            Ok(Event::Stopped(reason)) => return Err(boot(&reason)),
            Err(error) => return Err(boot(&error)),
        }
        Ok(Self {
            machine,
            storage: plan.start.storage,
            _lock: lock,
        })
    }
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, FilesError> {
    serde_json::from_slice(text)
        .map_err(|error| GuestError::Garbage(error.to_string()))
        .map_err(FilesError::from)
}

/// What the agent sends while it works.
#[derive(Debug)]
pub struct Output {
    reader: BufReader<UnixStream>,
    /// What of the last frame was not taken yet.
    rest: io::Cursor<Vec<u8>>,
    message: Vec<u8>,
    exit: Option<Exit>,
}

impl Output {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            reader: BufReader::with_capacity(CHUNK, stream),
            rest: io::Cursor::default(),
            message: Vec::new(),
            exit: None,
        }
    }

    /// Reads to the end and tells whether the agent finished its work.
    pub fn finish(&mut self) -> Result<(), FilesError> {
        while self.next_frame()? {}
        match &self.exit {
            Some(exit) if exit.code == 0 => Ok(()),
            Some(_) if !self.message.is_empty() => {
                let text = String::from_utf8_lossy(&self.message);
                Err(FilesError::Failed(text.trim().to_owned()))
            }
            _ => Err(FilesError::Truncated),
        }
    }

    /// Takes the next frame; false at the end.
    fn next_frame(&mut self) -> Result<bool, FilesError> {
        if self.exit.is_some() {
            return Ok(false);
        }
        let frame = read_frame(&mut self.reader).map_err(GuestError::Frame)?;
        let frame = frame.ok_or(FilesError::Truncated)?;
        match frame.kind {
            FrameKind::Stdout => self.rest = io::Cursor::new(frame.payload),
            FrameKind::Stderr => {
                let room = MAX_MESSAGE.saturating_sub(self.message.len());
                self.message.extend(frame.payload.into_iter().take(room));
            }
            FrameKind::Exit => self.exit = Some(parse(&frame.payload)?),
            kind => return Err(GuestError::Garbage(format!("{kind:?} in an archive")).into()),
        }
        Ok(true)
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let taken = self.rest.read(buffer)?;
            if taken > 0 || buffer.is_empty() {
                return Ok(taken);
            }
            if !self.next_frame().map_err(io::Error::other)? {
                return Ok(0);
            }
        }
    }
}

/// An archive on its way to the agent.
#[derive(Debug)]
pub(crate) struct Input(pub(crate) UnixStream);

impl Input {
    pub(crate) fn close(&mut self) -> io::Result<()> {
        write_frame(&mut self.0, FrameKind::StdinClose, &[])
    }
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(CHUNK)];
        if !piece.is_empty() {
            write_frame(&mut self.0, FrameKind::Stdin, piece)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
