//! Talking to the supervisor of a running container.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use guest_agent::protocol::{Exit, FrameKind, Request};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, RecvMsg, UnixAddr, recvmsg};

use super::control::{self, Attach, ControlError, ControlReply, ControlRequest};
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
    Ok(receive_stream(&stream).map_err(ControlError::Io)?)
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

fn receive_stream(stream: &UnixStream) -> io::Result<UnixStream> {
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message: RecvMsg<'_, '_, UnixAddr> =
        recvmsg(stream.as_raw_fd(), &mut buffers, Some(&mut space), flags)?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part
            && let Some(&descriptor) = descriptors.first()
        {
            // SAFETY: the kernel has just made this descriptor for this message and gave
            // it to nobody else, so owning it here closes it exactly once; the buffer has
            // room for one descriptor, so there is no second one to leak.
            return Ok(UnixStream::from(unsafe {
                OwnedFd::from_raw_fd(descriptor)
            }));
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
