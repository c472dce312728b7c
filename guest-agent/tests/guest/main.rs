//! The agent as a whole, in namespaces on this machine.

mod harness;
mod processes;
mod root;
mod streams;
