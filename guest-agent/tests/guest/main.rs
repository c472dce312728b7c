//! The agent as a whole, in namespaces on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
mod processes;
mod root;
mod streams;
mod talk;
