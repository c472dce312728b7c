//! The agent as a whole, in namespaces on this machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking; clippy's own exception does not reach their helpers"
)]

mod harness;
mod processes;
mod root;
mod steps;
mod streams;
mod talk;
mod waiting;
