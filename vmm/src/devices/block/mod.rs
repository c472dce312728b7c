//! The block device: requests against a [`Disk`].

mod disk;
mod gpt;
mod request;
#[cfg(test)]
mod tests;
mod throttle;

use virtio_bindings::virtio_blk as blk;

pub(crate) use disk::Disk;
pub(crate) use throttle::Throttle;

use super::{DeviceError, Memory, RING_FEATURES, VirtQueue, VirtioDevice, copy_config, kind};
use gpt::SECTOR;

/// The most data segments in a request: a queue of 256 entries holds two such requests.
const SEG_MAX: u32 = 126;

/// The most sectors in one discard or write-zeroes range (1 GiB).
const MAX_RANGE_SECTORS: u32 = 1 << 21;

/// A virtio block device.
#[derive(Debug)]
pub(crate) struct Block {
    disk: Disk,
    serial: String,
    config: Vec<u8>,
    throttle: Option<Throttle>,
}

impl Block {
    /// A device with a serial of up to 20 bytes.
    pub(crate) fn new(disk: Disk, serial: String) -> Self {
        let config = config_space(&disk);
        Self {
            disk,
            serial,
            config,
            throttle: None,
        }
    }

    /// The device with limits.
    pub(crate) fn with_limits(self, throttle: Option<Throttle>) -> Self {
        Self { throttle, ..self }
    }

    /// Whether the next request may be served now.
    fn may_serve(&mut self) -> Result<bool, DeviceError> {
        match &mut self.throttle {
            Some(throttle) => throttle
                .may_serve()
                .map_err(|errno| DeviceError::Host(errno.into())),
            None => Ok(true),
        }
    }
}

impl VirtioDevice for Block {
    fn kind(&self) -> u32 {
        kind::BLOCK
    }

    fn queues(&self) -> usize {
        1
    }

    fn features(&self) -> u64 {
        let common =
            RING_FEATURES | 1 << blk::VIRTIO_BLK_F_SEG_MAX | 1 << blk::VIRTIO_BLK_F_BLK_SIZE;
        common
            | if self.disk.is_writable() {
                1 << blk::VIRTIO_BLK_F_FLUSH
                    | 1 << blk::VIRTIO_BLK_F_DISCARD
                    | 1 << blk::VIRTIO_BLK_F_WRITE_ZEROES
            } else {
                1 << blk::VIRTIO_BLK_F_RO
            }
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        copy_config(&self.config, offset, data);
    }

    fn queue_event(
        &mut self,
        _index: usize,
        memory: &Memory,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        let Some(queue) = queues.first_mut() else {
            return Ok(());
        };
        loop {
            queue.pause_kicks(memory)?;
            loop {
                if !self.may_serve()? {
                    // The timer goes on with what waits, so the guest need not kick.
                    return queue.notify(memory);
                }
                let Some(chain) = queue.pop(memory)? else {
                    break;
                };
                let head = chain.head_index();
                let served = request::serve(&self.disk, &self.serial, chain, memory)?;
                queue.push(memory, head, served.written)?;
                if let Some(throttle) = &mut self.throttle {
                    throttle.charge(served);
                }
            }
            queue.notify(memory)?;
            if !queue.resume_kicks(memory)? {
                return Ok(());
            }
        }
    }

    fn fd_event(
        &mut self,
        _token: u32,
        _readiness: u32,
        memory: &Memory,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        if let Some(throttle) = &self.throttle {
            throttle.fired();
        }
        match queues.first() {
            Some(queue) if queue.ready() => self.queue_event(0, memory, queues),
            _ => Ok(()),
        }
    }

    fn insert(&mut self, disk: Disk) -> Result<(), DeviceError> {
        // What the guest has been told stays as it is.
        let awaited = matches!(&self.disk, Disk::Awaited { .. });
        let same = disk.size() == self.disk.size() && disk.is_writable() == self.disk.is_writable();
        if !awaited || !same {
            let what = "a disk is not the one that was awaited";
            return Err(DeviceError::Host(std::io::Error::other(what)));
        }
        self.disk = disk;
        Ok(())
    }
}

/// `struct virtio_blk_config`, as far as the offered features use it.
fn config_space(disk: &Disk) -> Vec<u8> {
    let mut config = vec![0; 60];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(target) = config.get_mut(at..at + value.len()) {
            target.copy_from_slice(value);
        }
    };
    put(0, &(disk.size() / SECTOR).to_le_bytes());
    put(12, &SEG_MAX.to_le_bytes());
    put(20, &(SECTOR as u32).to_le_bytes());
    if disk.is_writable() {
        let range = MAX_RANGE_SECTORS.to_le_bytes();
        let one = 1u32.to_le_bytes();
        // Discard: the largest range, ranges per request, alignment.
        put(36, &range);
        put(40, &one);
        put(44, &8u32.to_le_bytes());
        // Write zeroes: the largest range, ranges per request, may unmap.
        put(48, &range);
        put(52, &one);
        put(56, &[1]);
    }
    config
}
