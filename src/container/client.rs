//! Talking to the supervisor of a running container.

use std::io;
use std::os::unix::net::UnixStream;

use guest_agent::protocol::{Exit, FrameKind, Request};

use super::control::{self, Attach, ControlError, ControlReply, ControlRequest};
use super::descriptors;
use super::guest::{self, GuestError};
use super::record::Container;
use crate::store::{Store, StoreError};

/// Why a running container could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It has no supervisor.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The supervisor refused.
    #[error("{message}")]
    Refused {
        /// Docker's exit code for it.
        code: i32,
        /// One sentence.
        message: String,
    },
    /// The conversation broke.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The guest refused or broke.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ClientError {
    /// Docker's exit code for it.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Guest(error) => error.exit_code(),
            Self::NotRunning(_) | Self::Control(_) | Self::Store(_) => 1,
        }
    }
}

/// Sends `request` to the container's supervisor; the stream then carries what it began.
pub fn ask(
    store: &Store,
    container: &Container,
    request: &ControlRequest,
) -> Result<UnixStream, ClientError> {
    let not_running = || ClientError::NotRunning(container.name.clone());
    let socket = store
        .control_socket(&container.id)?
        .ok_or_else(not_running)?;
    let mut stream = UnixStream::connect(socket.path()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => not_running(),
        _ => ControlError::Io(error).into(),
    })?;
    control::send(&mut stream, FrameKind::Request, request)?;
    match control::receive(&mut stream, FrameKind::Response)? {
        ControlReply::Ok { .. } => Ok(stream),
        ControlReply::Error { code, message } => Err(ClientError::Refused { code, message }),
    }
}

/// Joins the first process's streams.
pub fn attach(
    store: &Store,
    container: &Container,
    attach: Attach,
) -> Result<UnixStream, ClientError> {
    ask(store, container, &ControlRequest::Attach(attach))
}

/// Waits for the first process's end.
pub fn wait(store: &Store, container: &Container) -> Result<Exit, ClientError> {
    let mut stream = ask(store, container, &ControlRequest::Wait)?;
    Ok(control::receive(&mut stream, FrameKind::Exit)?)
}

/// A connection to the guest's agent.
pub fn agent(store: &Store, container: &Container) -> Result<UnixStream, ClientError> {
    let stream = ask(store, container, &ControlRequest::Agent)?;
    let [stream] = descriptors::receive(&stream).map_err(ControlError::Io)?;
    Ok(UnixStream::from(stream))
}

/// Asks the guest's agent for something that is answered at once.
pub fn ask_agent(
    store: &Store,
    container: &Container,
    request: Request,
) -> Result<UnixStream, ClientError> {
    let mut stream = agent(store, container)?;
    guest::ask(&mut stream, request)?;
    Ok(stream)
}
