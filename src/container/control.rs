//! What a supervisor can be asked over its socket, shared by both ends.
//!
//! Framing is the agent protocol's. A client sends one `Request` frame with a
//! [`ControlRequest`] and gets one `Response` frame with a [`ControlReply`]; an attached
//! client's connection then carries standard streams until the `Exit` frame.

use std::io::{self, Read, Write};

use guest_agent::protocol::{FrameError, FrameKind, Start, read_frame, write_frame};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::network::NetworkPlan;
use super::record::Container;

/// The hidden subcommand that makes the binary a supervisor.
pub const SUBCOMMAND: &str = "__supervise";

/// The first frame a new supervisor reads, on the channel its starter gave it.
#[derive(Debug, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// The container as the store has it.
    pub container: Container,
    /// The machine to start.
    pub machine: vmm::MachineConfig,
    /// The networks to connect it to.
    pub network: NetworkPlan,
    /// What to tell the agent; the supervisor fills in clock and entropy.
    pub start: Box<Start>,
    /// The streams that the starter wants; its channel is the first attached client.
    pub attach: Attach,
}

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The client will send standard input.
    pub stdin: bool,
    /// The client wants output and the exit status.
    pub output: bool,
    /// The client wants to know what starting the machine took.
    #[serde(default)]
    pub trace_boot: bool,
    /// The client wants to know what the guest's kernel says.
    #[serde(default)]
    pub console: bool,
}

/// What a client can ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlRequest {
    /// Join the first process's streams.
    Attach(Attach),
    /// Be told when it ends: an `Exit` frame, nothing else.
    Wait,
    /// A connection to the guest's agent; it follows the reply as a file descriptor.
    Agent,
    /// Send a signal, wait, kill; answered when the container has ended.
    Stop {
        /// The first signal.
        signal: i32,
        /// Seconds until SIGKILL; without a number, for ever.
        timeout: Option<u32>,
        /// A user wants that, and not the host that goes down.
        by_user: bool,
    },
    /// Send a signal to the first process.
    Signal {
        /// Its number.
        signal: i32,
        /// It is meant to end the container, so that its restart policy no longer counts.
        ends: bool,
    },
    /// Stop all processes where they are, or let them go on.
    Pause(bool),
    /// Change what its machine may use of the host.
    Limit(vmm::HostLimits),
    /// The store has other networks, names or aliases for it than before.
    Networks,
    /// End the machine at once; answered when it has ended.
    Kill,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlReply {
    /// Done, or begun.
    Ok {
        /// Sentences for the user.
        warnings: Vec<String>,
        /// What starting the machine took, if that was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot: Option<Box<vmm::BootTrace>>,
    },
    /// Not done.
    Error {
        /// Docker's exit code for it.
        code: i32,
        /// One sentence.
        message: String,
    },
}

/// Why talking to a supervisor failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The other end is gone.
    #[error("the container's supervisor ended without an answer")]
    Gone,
    /// Not this protocol.
    #[error("the container's supervisor sent something that is not of this version of hull: {0}")]
    Garbage(String),
    /// A frame that cannot be read.
    #[error("talking to the container's supervisor: {0}")]
    Frame(#[from] FrameError),
    /// The socket failed.
    #[error("talking to the container's supervisor: {0}")]
    Io(#[from] io::Error),
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Sends `message` as a frame of `kind`.
pub fn send(
    stream: &mut impl Write,
    kind: FrameKind,
    message: &impl Serialize,
) -> Result<(), ControlError> {
    let json = serde_json::to_vec(message).map_err(io::Error::other)?;
    match write_frame(stream, kind, &json) {
        Err(error) if is_hang_up(&error) => Err(ControlError::Gone),
        sent => Ok(sent?),
    }
}

/// Reads a frame of `kind` and what it carries.
pub fn receive<T: DeserializeOwned>(
    stream: &mut impl Read,
    kind: FrameKind,
) -> Result<T, ControlError> {
    let frame = match read_frame(stream) {
        Ok(Some(frame)) => frame,
        Ok(None) => return Err(ControlError::Gone),
        // One that ends with a request unread resets the connection.
        Err(FrameError::Io(error)) if is_hang_up(&error) => return Err(ControlError::Gone),
        Err(error) => return Err(error.into()),
    };
    if frame.kind != kind {
        return Err(ControlError::Garbage(format!(
            "{:?} instead of {kind:?}",
            frame.kind
        )));
    }
    serde_json::from_slice(&frame.payload).map_err(|e| ControlError::Garbage(e.to_string()))
}
