//! The file system device: FUSE requests of the guest, served from a directory of the host.
//!
//! The FUSE work is fuse-backend-rs's. What it can reach is decided by the process that
//! this device lives in: that process's root directory holds the shared directories alone.

mod attributes;
mod files;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::time::Duration;

use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::passthrough::{CachePolicy, Config, PassthroughFs};
use fuse_backend_rs::transport::{Reader, VirtioFsWriter};

use files::Files;

use super::{DeviceError, Memory, RING_FEATURES, VirtQueue, VirtioDevice, copy_config, kind};

/// The longest tag.
const TAG_LEN: usize = 36;

/// Queues: one for requests that must not wait, one for all others.
const QUEUES: usize = 2;

/// Device type and number of queues, for transports whose device is in another process.
pub(crate) const IDENTITY: (u32, usize) = (kind::FS, QUEUES);

/// The configuration space of a device with this tag.
pub(crate) fn configuration(tag: &str) -> Vec<u8> {
    let mut config = vec![0; TAG_LEN + 4];
    for (to, from) in config.iter_mut().zip(tag.bytes().take(TAG_LEN)) {
        *to = from;
    }
    // One request queue.
    if let Some(count) = config.get_mut(TAG_LEN) {
        *count = 1;
    }
    config
}

/// A virtio file system device.
pub(crate) struct Fs {
    server: Server<Files>,
    config: Vec<u8>,
}

impl fmt::Debug for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fs").finish_non_exhaustive()
    }
}

/// A shared directory whose files are not reachable yet.
pub(crate) struct Share(PassthroughFs);

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").finish_non_exhaustive()
    }
}

impl Share {
    /// Prepare to share what will be `directory`. Needs `/proc`; later `/proc/self/fd` is
    /// enough.
    pub(crate) fn prepare(directory: &str) -> io::Result<Self> {
        let config = Config {
            root_dir: directory.to_owned(),
            // The host may change files at any time, and who opens one shall see it at once: its
            // name is always looked up anew, which brings its attributes.
            entry_timeout: Duration::ZERO,
            // Without these, every `stat` would ask twice, and for each directory of the path.
            attr_timeout: files::TRUST,
            dir_entry_timeout: Some(files::TRUST),
            cache_policy: CachePolicy::Auto,
            // Reached through /proc/self/fd.
            xattr: true,
            // Writing takes set-user-ID away, without a question before every write.
            killpriv_v2: true,
            ..Config::default()
        };
        Ok(Self(PassthroughFs::new(config)?))
    }

    /// The device, once the directory is where it was said to be.
    pub(crate) fn open(self, tag: &str) -> io::Result<Fs> {
        self.0.import()?;
        Ok(Fs {
            server: Server::new(Files::new(self.0)?),
            config: configuration(tag),
        })
    }
}

impl VirtioDevice for Fs {
    fn kind(&self) -> u32 {
        kind::FS
    }

    fn queues(&self) -> usize {
        QUEUES
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        copy_config(&self.config, offset, data);
    }

    fn queue_event(
        &mut self,
        index: usize,
        memory: &Memory,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        let Some(queue) = queues.get_mut(index) else {
            return Ok(());
        };
        loop {
            queue.pause_kicks(memory)?;
            while let Some(chain) = queue.pop(memory)? {
                let head = chain.head_index();
                let broken = |error: fuse_backend_rs::transport::Error| {
                    DeviceError::Descriptor(error.to_string())
                };
                let reader =
                    Reader::from_descriptor_chain(memory, chain.clone()).map_err(broken)?;
                let writer = VirtioFsWriter::new(memory, chain).map_err(broken)?;
                // An error means that there is no way to answer: the guest's request was not
                // one. What cannot be done is answered inside.
                let written = self
                    .server
                    .handle_message(reader, writer.into(), None, None)
                    .unwrap_or(0);
                queue.push(memory, head, u32::try_from(written).unwrap_or(0))?;
            }
            queue.notify(memory)?;
            if !queue.resume_kicks(memory)? {
                return Ok(());
            }
        }
    }
}
