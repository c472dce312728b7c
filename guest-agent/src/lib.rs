//! The protocol between hull's host side and the agent that is PID 1 in every guest.
//!
//! Purpose: one definition of every byte that crosses the vsock, shared by both sides, so
//! that neither can drift. The agent itself lives in this crate's binary.
#![forbid(unsafe_code)]

pub mod protocol;
