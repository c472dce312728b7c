//! A container's file system as a tar archive, streamed by an agent that has it mounted: the
//! container's own when it runs, else one in a guest that is started for that alone.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use guest_agent::protocol::{AGENT_PORT, Export, FrameKind, Request, Storage, read_frame};
use vmm::{Event, Machine};

use super::client::{self, ClientError};
use super::control::{Attach, ControlError};
use super::guest::{self, GuestError};
use super::launch::{self, LaunchError};
use super::record::Container;
use super::state::Status;
use crate::store::Store;

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The running container cannot be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The guest for it cannot be put together.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The guest for it did not boot.
    #[error("the guest that reads the container's files did not boot: {0}")]
    Boot(String),
    /// The agent failed.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The archive ends early.
    #[error("the guest ended before the archive was whole")]
    Truncated,
    /// Writing it failed.
    #[error("writing the archive: {0}")]
    Write(#[source] io::Error),
}

/// Writes the archive of `container`'s files to `out`.
pub fn export(
    store: &Store,
    container: &Container,
    out: &mut impl Write,
) -> Result<(), ExportError> {
    if container.state.status == Status::Running {
        let mut stream = client::agent(store, container)?;
        return stream_archive(&mut stream, Storage::default(), out);
    }
    let lock = launch::take_lock(store, container)?;
    let plan = launch::plan(store, container, Attach::default(), None)?;
    let mut machine =
        Machine::start(&plan.machine).map_err(|error| ExportError::Boot(error.to_string()))?;
    match machine.next_event() {
        Ok(Event::Ready) => {}
        Ok(Event::Stopped(reason)) => return Err(ExportError::Boot(reason.to_string())),
        Err(error) => return Err(ExportError::Boot(error.to_string())),
    }
    let mut stream = machine
        .connect(AGENT_PORT)
        .map_err(|error| ExportError::Boot(error.to_string()))?;
    let done = stream_archive(&mut stream, plan.start.storage, out);
    machine.kill();
    drop(lock);
    done
}

fn stream_archive(
    stream: &mut UnixStream,
    storage: Storage,
    out: &mut impl Write,
) -> Result<(), ExportError> {
    guest::ask(stream, Request::Export(Box::new(Export { storage })))?;
    let mut reader = io::BufReader::with_capacity(256 << 10, stream);
    loop {
        let frame = read_frame(&mut reader).map_err(GuestError::Frame)?;
        let frame = frame.ok_or(ExportError::Truncated)?;
        match frame.kind {
            FrameKind::Stdout => out.write_all(&frame.payload).map_err(ExportError::Write)?,
            FrameKind::Exit => {
                let exit: guest_agent::protocol::Exit = serde_json::from_slice(&frame.payload)
                    .map_err(|error| GuestError::Garbage(error.to_string()))?;
                return if exit.code == 0 {
                    Ok(())
                } else {
                    Err(ExportError::Truncated)
                };
            }
            kind => return Err(GuestError::Garbage(format!("{kind:?} in an archive")).into()),
        }
    }
}

impl From<ControlError> for ExportError {
    fn from(error: ControlError) -> Self {
        Self::Client(error.into())
    }
}
