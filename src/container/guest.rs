//! The host's side of the agent protocol over a blocking stream.

use std::io;
use std::os::unix::net::UnixStream;

use guest_agent::protocol::{
    AgentError, Envelope, ErrorKind, FrameError, FrameKind, Request, Response, VERSION, read_frame,
    write_frame,
};

/// Why a request to the agent failed.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The agent said no.
    #[error(transparent)]
    Refused(#[from] AgentError),
    /// The agent hung up.
    #[error("the guest's agent closed the connection, the guest has ended or is ending")]
    Gone,
    /// The agent does not speak this protocol.
    #[error("the guest's agent sent something that is not of this protocol: {0}")]
    Garbage(String),
    /// A frame that cannot be read.
    #[error("talking to the guest's agent: {0}")]
    Frame(#[from] FrameError),
    /// The connection failed.
    #[error("talking to the guest's agent: {0}")]
    Io(#[from] io::Error),
}

impl GuestError {
    /// Docker's exit code for it.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Refused(error) => refusal_code(error),
            _ => 125,
        }
    }
}

/// Docker's exit code for what the agent refused.
pub fn refusal_code(error: &AgentError) -> i32 {
    match error.kind {
        ErrorKind::NotFound => 127,
        ErrorKind::NotExecutable => 126,
        _ => 125,
    }
}

/// Encodes a request as the payload of its frame.
pub fn encode(request: Request) -> io::Result<Vec<u8>> {
    serde_json::to_vec(&Envelope {
        version: VERSION,
        request,
    })
    .map_err(io::Error::other)
}

/// Decodes the answer: the warnings of a success, or the refusal.
pub fn decode(payload: &[u8]) -> Result<Vec<String>, GuestError> {
    match serde_json::from_slice(payload) {
        Ok(Response::Ok { warnings, .. }) => Ok(warnings),
        Ok(Response::Error(error)) => Err(error.into()),
        Err(error) => Err(GuestError::Garbage(error.to_string())),
    }
}

/// Sends `request` and waits for the answer; the stream then carries what the request began.
pub fn ask(stream: &mut UnixStream, request: Request) -> Result<Vec<String>, GuestError> {
    write_frame(stream, FrameKind::Request, &encode(request)?)?;
    let frame = read_frame(stream)?.ok_or(GuestError::Gone)?;
    if frame.kind != FrameKind::Response {
        return Err(GuestError::Garbage(format!(
            "{:?} instead of a response",
            frame.kind
        )));
    }
    decode(&frame.payload)
}
