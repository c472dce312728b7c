//! How a guest reaches the devices.

mod memory;
pub(crate) mod mmio;
#[cfg(test)]
mod tests;
mod vhost_user;

use std::fs::File;
use std::os::unix::net::UnixStream;

pub(crate) use memory::MemoryCache;
pub(crate) use vhost_user::{TransportError, VhostUser};

use crate::devices::block::Disk;
use crate::poll::Ready;

/// What a machine needs of a device's transport.
pub(crate) trait Transport: std::fmt::Debug {
    /// One of the transport's descriptors is ready.
    fn transport_event(&mut self, ready: Ready) -> Result<(), TransportError>;

    /// One of the device's own descriptors is ready.
    fn device_event(&mut self, ready: Ready) -> Result<(), TransportError>;

    /// Connect a stream to a port of the guest.
    fn connect(&mut self, port: u32, stream: UnixStream) -> Result<(), TransportError>;

    /// Give the device one of its sides of the host, or take it away.
    fn attach(&mut self, place: u16, file: Option<File>) -> Result<(), TransportError>;

    /// Give a disk that has nothing on it yet what is to be there.
    fn insert(&mut self, disk: Disk) -> Result<(), TransportError> {
        let _ = disk;
        let what = "this engine's machines have their disks from the start";
        Err(std::io::Error::other(what).into())
    }
}
