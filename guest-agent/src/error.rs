//! Shorthands for the failures that the host is told about.
//!
//! Purpose: every failure of the agent is one [`AgentError`]: a kind for docker's exit code
//! and one sentence for the user.

use std::fmt::Display;

use guest_agent::protocol::{AgentError, ErrorKind};

/// What most of the agent returns.
pub type Result<T> = std::result::Result<T, AgentError>;

/// The guest could not do something: the sentence is `what: error`.
pub fn guest(what: impl Display, error: impl Display) -> AgentError {
    AgentError {
        kind: ErrorKind::Guest,
        message: format!("{what}: {error}"),
    }
}

/// The request asks for something wrong.
pub fn invalid(message: impl Into<String>) -> AgentError {
    AgentError {
        kind: ErrorKind::Invalid,
        message: message.into(),
    }
}

/// Text of an error number as docker's users know it (`no such file or directory`).
pub fn reason(errno: nix::errno::Errno) -> String {
    let text = errno.desc().to_lowercase();
    match errno {
        // A file system that contradicts itself; the kernel's words tell nobody what to do.
        nix::errno::Errno::EUCLEAN => format!(
            "{text} (a layer of the image, or the container's own, is damaged: remove the image \
             with `hull rmi --force` and pull it again)"
        ),
        _ => text,
    }
}
