//! Networks: bridges that containers are connected to, and everything that follows from it.
//!
//! `record` and `ports` are the data, `manage` is what the commands do, `publish` binds ports of
//! the host, `link` is the supervisor's side of a container's connection, `holder` is the process
//! that has the networks, and `wire` is what these two say to each other.

pub mod address;
pub mod holder;
pub mod host;
pub mod link;

pub mod manage;
pub mod ports;
pub mod probe;
pub mod publish;
pub mod record;
pub mod wire;
