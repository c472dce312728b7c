//! A device that another process serves over vhost-user: this process keeps its registers
//! and tells it where queues, notifications and interrupts are.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use vhost::vhost_user::message::VhostUserVirtioFeatures;
use vhost::vhost_user::{Error as VhostUserError, Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{GuestMemory, GuestMemoryRegion};

use super::backend::Backend;
use super::registers::{MAX_QUEUE_SIZE, QueuePlace};
use crate::devices::{InterruptLine, Memory, RING_FEATURES, copy_config};
use crate::eventfd;
use crate::transport::TransportError;

/// Guest memory and the file that it lies in, which the other process maps too.
#[derive(Debug, Clone)]
pub(crate) struct SharedMemory {
    pub(crate) memory: Memory,
    pub(crate) file: Arc<File>,
}

/// A device at the other end of a socket.
pub(crate) struct Remote {
    link: Frontend,
    kind: u32,
    config: Vec<u8>,
    shared: SharedMemory,
    queues: usize,
    kicks: Vec<File>,
    line: Option<Arc<InterruptLine>>,
    introduced: bool,
    running: Vec<bool>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// A device of this kind with this many queues, and with this configuration space.
    pub(crate) fn new(
        stream: UnixStream,
        (kind, queues): (u32, usize),
        config: Vec<u8>,
        shared: SharedMemory,
    ) -> Self {
        Self {
            link: Frontend::from_stream(stream, queues as u64),
            kind,
            config,
            shared,
            queues,
            kicks: Vec::new(),
            line: None,
            introduced: false,
            running: vec![false; queues],
        }
    }

    pub(super) fn with_events(self, kicks: Vec<File>, line: Arc<InterruptLine>) -> Self {
        Self {
            kicks,
            line: Some(line),
            ..self
        }
    }

    /// Tell the other process what the driver wants, and where the guest's memory is. That
    /// happens only when the guest has a driver for the device.
    fn introduce(&mut self, features: u64) -> Result<(), vhost::Error> {
        if !self.introduced {
            self.link.set_owner()?;
            self.link.get_features()?;
        }
        self.link
            .set_features(features | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())?;
        if std::mem::replace(&mut self.introduced, true) {
            return Ok(());
        }
        let regions: Vec<_> = self
            .shared
            .memory
            .iter()
            .filter_map(|region| {
                let start = region.start_addr();
                let offset = region.file_offset()?.start();
                Some(VhostUserMemoryRegionInfo {
                    guest_phys_addr: start.0,
                    memory_size: region.len(),
                    // Only differences count: guest addresses will do.
                    userspace_addr: start.0,
                    mmap_offset: offset,
                    mmap_handle: self.shared.file.as_raw_fd(),
                })
            })
            .collect();
        self.link.set_mem_table(&regions)
    }

    fn start_queue(&mut self, index: usize, place: &QueuePlace) -> Result<(), vhost::Error> {
        let (Some(kick), Some(line)) = (self.kicks.get(index), &self.line) else {
            return Ok(());
        };
        let failed =
            |error| vhost::Error::VhostUserProtocol(VhostUserError::ReqHandlerError(error));
        let call = eventfd::foreign(line.event()).map_err(failed)?;
        let kick = eventfd::foreign(kick.as_fd()).map_err(failed)?;
        self.link.set_vring_num(index, place.size)?;
        self.link.set_vring_base(index, 0)?;
        let config = VringConfigData {
            queue_max_size: MAX_QUEUE_SIZE,
            queue_size: place.size,
            flags: 0,
            desc_table_addr: place.descriptors,
            used_ring_addr: place.used,
            avail_ring_addr: place.available,
            log_addr: None,
        };
        self.link.set_vring_addr(index, &config)?;
        self.link.set_vring_call(index, &call)?;
        self.link.set_vring_kick(index, &kick)?;
        self.link.set_vring_enable(index, true)
    }
}

fn broken(error: vhost::Error) -> TransportError {
    TransportError::Socket(io::Error::other(error.to_string()))
}

impl Backend for Remote {
    fn kind(&self) -> u32 {
        self.kind
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn queues(&self) -> usize {
        self.queues
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        copy_config(&self.config, offset, data);
    }

    fn start(&mut self, features: u64, places: &[QueuePlace]) -> Result<(), TransportError> {
        self.introduce(features).map_err(broken)?;
        for (index, place) in places.iter().enumerate() {
            if place.ready {
                self.start_queue(index, place).map_err(broken)?;
                if let Some(running) = self.running.get_mut(index) {
                    *running = true;
                }
            }
        }
        Ok(())
    }

    fn stop(&mut self, index: usize) -> Result<(), TransportError> {
        if let Some(running) = self.running.get_mut(index)
            && std::mem::take(running)
        {
            self.link.set_vring_enable(index, false).map_err(broken)?;
            self.link.get_vring_base(index).map_err(broken)?;
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<(), TransportError> {
        for index in 0..self.queues {
            self.stop(index)?;
        }
        Ok(())
    }
}
