//! What stands behind a register file: a device of this process or of another one.

use std::fs::File;
use std::os::unix::net::UnixStream;

use super::registers::QueuePlace;
use crate::poll::Ready;
use crate::transport::TransportError;

/// A device as its register file sees it.
pub(crate) trait Backend: Send + std::fmt::Debug {
    /// The virtio device type.
    fn kind(&self) -> u32;

    /// The features that it offers.
    fn features(&self) -> u64;

    /// The number of queues.
    fn queues(&self) -> usize;

    /// Read the configuration space; bytes beyond its end are zero.
    fn read_config(&self, offset: usize, data: &mut [u8]);

    /// The driver is ready: serve the queues that it has set up.
    fn start(&mut self, features: u64, queues: &[QueuePlace]) -> Result<(), TransportError>;

    /// Do not touch a queue any more.
    fn stop(&mut self, index: usize) -> Result<(), TransportError>;

    /// Be as before the first start.
    fn reset(&mut self) -> Result<(), TransportError>;

    /// The guest notified a queue, and that was reported to this process.
    fn kick(&mut self, index: usize) -> Result<(), TransportError> {
        let _ = index;
        Ok(())
    }

    /// One of the device's own descriptors is ready.
    fn device_event(&mut self, ready: Ready) -> Result<(), TransportError> {
        let _ = ready;
        Ok(())
    }

    /// Connect a stream to a port of the guest.
    fn connect(&mut self, port: u32, stream: UnixStream) -> Result<(), TransportError> {
        let _ = (port, stream);
        Ok(())
    }

    /// Give the device one of its sides of the host, or take it away.
    fn attach(&mut self, place: u16, file: Option<File>) -> Result<(), TransportError> {
        let _ = (place, file);
        Ok(())
    }
}
