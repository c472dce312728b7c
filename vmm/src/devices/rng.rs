//! The entropy device: the guest asks for random bytes and gets the host's.

use nix::libc;

use super::{Buffers, DeviceError, Memory, RING_FEATURES, VirtQueue, VirtioDevice, kind};

/// The most bytes that one request gets: a driver asks for 64.
const MAX_BYTES: usize = 4096;

/// A virtio entropy device.
#[derive(Debug, Default)]
pub(crate) struct Rng;

impl VirtioDevice for Rng {
    fn kind(&self) -> u32 {
        kind::RNG
    }

    fn queues(&self) -> usize {
        1
    }

    fn features(&self) -> u64 {
        RING_FEATURES
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
        let mut bytes = [0; MAX_BYTES];
        loop {
            queue.pause_kicks(memory)?;
            while let Some(chain) = queue.pop(memory)? {
                let head = chain.head_index();
                let (_, mut buffer) = Buffers::of_chain(chain, memory)?;
                let wanted = buffer.len().min(MAX_BYTES);
                let bytes = bytes.get_mut(..wanted).unwrap_or_default();
                fill(bytes)?;
                let written = buffer.write(bytes);
                queue.push(memory, head, written as u32)?;
            }
            queue.notify(memory)?;
            if !queue.resume_kicks(memory)? {
                return Ok(());
            }
        }
    }
}

/// Fill this with the host's random bytes.
pub(crate) fn fill(bytes: &mut [u8]) -> std::io::Result<()> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        // SAFETY: the pointer and the length are those of a live, exclusive slice.
        let n = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(n) {
            Ok(n) => done += n,
            Err(_) => {
                let error = std::io::Error::last_os_error();
                if error.kind() != std::io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}
