//! The protocol between hull's host side and the agent that is PID 1 in every guest.
//!
//! Purpose: one definition of every byte that crosses the vsock, shared by both sides, so
//! that neither can drift. The agent itself lives in this crate's binary; its parsers of
//! files that an image controls are in `parse`, so that they can be fuzzed alone.
#![forbid(unsafe_code)]

#[cfg(feature = "archive")]
pub mod archive;
#[cfg(feature = "archive")]
pub mod parse;
pub mod protocol;
