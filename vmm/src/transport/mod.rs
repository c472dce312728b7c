//! How a guest reaches the devices.

mod memory;
#[cfg(test)]
mod tests;
mod vhost_user;

pub(crate) use memory::MemoryCache;
pub(crate) use vhost_user::{TransportError, VhostUser};
