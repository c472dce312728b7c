//! Virtio devices: their queues, features, configuration space and requests.
//!
//! A device is written once and knows nothing of how the guest reaches it: a transport owns
//! the queues and the guest memory, and calls [`VirtioDevice`]. Everything that a device
//! reads from the guest is hostile. A request that makes no sense is answered with the
//! protocol's error where there is one; a queue that makes no sense is a [`DeviceError`],
//! after which the transport stops the device.

pub(crate) mod balloon;
pub(crate) mod block;
mod buffers;
pub(crate) mod fs;
mod interrupt;
pub(crate) mod net;
mod queue;
pub(crate) mod rng;
#[cfg(test)]
pub(crate) mod testing;
mod throttle;
pub(crate) mod vsock;

use std::fs::File;
use std::os::unix::net::UnixStream;

pub(crate) use buffers::Buffers;
pub(crate) use interrupt::{Interrupt, InterruptLine};
pub(crate) use queue::VirtQueue;

/// Guest memory as the devices see it.
pub(crate) type Memory = vm_memory::GuestMemoryMmap<()>;

/// Virtio 1.0, without which nothing here works.
pub(crate) const F_VERSION_1: u64 = 1 << virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
/// Descriptors that point to tables of descriptors.
pub(crate) const F_INDIRECT: u64 = 1 << virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;
/// Notifications suppressed by ring index.
pub(crate) const F_EVENT_IDX: u64 = 1 << virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

/// What every queue here can do.
pub(crate) const RING_FEATURES: u64 = F_VERSION_1 | F_INDIRECT | F_EVENT_IDX;

/// Virtio device types.
pub(crate) mod kind {
    /// A network interface.
    pub(crate) const NET: u32 = 1;
    /// A disk.
    pub(crate) const BLOCK: u32 = 2;
    /// A source of random bytes.
    pub(crate) const RNG: u32 = 4;
    /// What gives memory back to the host.
    pub(crate) const BALLOON: u32 = 5;
    /// Streams between host and guest.
    pub(crate) const VSOCK: u32 = 19;
    /// A shared directory.
    pub(crate) const FS: u32 = 26;

    /// What people call it.
    pub(crate) fn name(kind: u32) -> &'static str {
        match kind {
            NET => "net",
            BLOCK => "block",
            RNG => "rng",
            BALLOON => "balloon",
            VSOCK => "vsock",
            FS => "fs",
            _ => "unknown",
        }
    }
}

/// A queue that a device cannot go on with: the guest's driver is broken or hostile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// A ring is not where it says, or its indices are impossible.
    #[error("the guest's virtio queue is broken: {0}")]
    Queue(#[from] virtio_queue::Error),
    /// A descriptor points outside of guest memory or overflows.
    #[error("a virtio descriptor of the guest is broken: {0}")]
    Descriptor(String),
    /// The interrupt to the guest cannot be sent.
    #[error("cannot interrupt the guest: {0}")]
    Interrupt(std::io::Error),
    /// Something on the host failed.
    #[error("a virtio device failed: {0}")]
    Host(#[from] std::io::Error),
}

/// A virtio device without its transport.
pub(crate) trait VirtioDevice: Send {
    /// The virtio device type.
    fn kind(&self) -> u32;

    /// The number of queues.
    fn queues(&self) -> usize;

    /// The features that it offers, ring features included.
    fn features(&self) -> u64;

    /// Read the configuration space; bytes beyond its end are zero.
    fn read_config(&self, offset: usize, data: &mut [u8]) {
        let _ = offset;
        data.fill(0);
    }

    /// The guest chose these features, before it uses any queue.
    fn negotiated(&mut self, features: u64) {
        let _ = features;
    }

    /// The guest notified a queue.
    fn queue_event(
        &mut self,
        index: usize,
        memory: &Memory,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError>;

    /// A descriptor that the device registered is ready.
    fn fd_event(
        &mut self,
        token: u32,
        readiness: u32,
        memory: &Memory,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        let _ = (token, readiness, memory, queues);
        Ok(())
    }

    /// The driver starts anew: forget what the one before did.
    fn reset(&mut self) {}

    /// The creator wants a stream connected to a port of the guest.
    fn connect(
        &mut self,
        port: u32,
        stream: UnixStream,
        memory: Option<&Memory>,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        let _ = (port, stream, memory, queues);
        Ok(())
    }

    /// The creator hands over one of the host's sides of the device, now or in place of an
    /// earlier one, or takes it away.
    fn attach(
        &mut self,
        place: u16,
        file: Option<File>,
        memory: Option<&Memory>,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        let _ = (place, file, memory, queues);
        Ok(())
    }

    /// The creator brings what is on a disk that has nothing on it yet.
    fn insert(&mut self, disk: block::Disk) -> Result<(), DeviceError> {
        let _ = disk;
        let what = "there is nothing to put a disk into";
        Err(DeviceError::Host(std::io::Error::other(what)))
    }
}

/// Copy a part of a configuration space.
pub(crate) fn copy_config(config: &[u8], offset: usize, data: &mut [u8]) {
    data.fill(0);
    let rest = config.get(offset..).unwrap_or_default();
    let len = rest.len().min(data.len());
    if let (Some(to), Some(from)) = (data.get_mut(..len), rest.get(..len)) {
        to.copy_from_slice(from);
    }
}
