//! What a machine tells its creator.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest agent listens.
    Ready,
    /// The machine has ended; nothing follows.
    Stopped(StopReason),
}

/// Why a machine ended. `Display` is one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The guest switched itself off.
    PowerOff,
    /// The guest kernel panicked; the text is its last words.
    Panic(String),
    /// The guest kernel gave up because its memory was used up and nothing was left to kill.
    OutOfMemory,
    /// Its processes used more of the host's memory than they may, and the host killed one.
    HostMemory,
    /// A signal ended the machine's process.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The machine could not be set up or broke; the text says what failed.
    Failed(String),
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest powered off"),
            Self::Panic(words) => write!(f, "the guest kernel panicked: {words}"),
            Self::OutOfMemory => {
                f.write_str("the guest ran out of memory: give it more with --memory")
            }
            Self::HostMemory => f.write_str(
                "the machine used more of the host's memory than its limit and was killed: give it more with --memory",
            ),
            Self::Killed { signal: 9 } => f.write_str(
                "the machine was killed by signal 9 (someone killed it, or the host is out of memory)",
            ),
            Self::Killed { signal } => write!(f, "the machine was killed by signal {signal}"),
            Self::Failed(what) => f.write_str(what),
        }
    }
}
