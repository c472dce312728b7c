//! A device behind a socket, with its queues and the guest's memory: what messages change and
//! notifications set going.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use vhost::vhost_user::{Error as VhostError, Result as VhostResult};
use virtio_queue::QueueT;

use super::{KICKS, TransportError};
use crate::devices::{DeviceError, Memory, VirtQueue, VirtioDevice};
use crate::poll::Poller;
use crate::transport::memory::{MappedMemory, MemoryCache};

/// What the transport knows of a queue.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) kick: Option<File>,
    pub(super) enabled: bool,
    pub(super) placed: bool,
    pub(super) watched: bool,
}

/// The device, its queues and the guest's memory: what messages change.
pub(super) struct Port {
    pub(super) device: Box<dyn VirtioDevice>,
    pub(super) queues: Vec<VirtQueue>,
    pub(super) rings: Vec<Ring>,
    pub(super) mapped: MappedMemory,
    pub(super) poller: Poller,
    pub(super) cache: MemoryCache,
    pub(super) acked: u64,
    /// Queues were enabled before there was a choice of features.
    pub(super) enabled_early: bool,
    /// A device failure that happened inside of a message's handler.
    pub(super) failure: Option<TransportError>,
}

impl Port {
    /// A device that nobody has spoken to yet.
    pub(super) fn new(
        device: Box<dyn VirtioDevice>,
        poller: Poller,
        cache: MemoryCache,
    ) -> Result<Self, DeviceError> {
        let count = device.queues();
        let queues = (0..count)
            .map(|_| VirtQueue::new())
            .collect::<Result<Vec<_>, _>>();
        Ok(Self {
            device,
            queues: queues.map_err(DeviceError::Queue)?,
            rings: (0..count).map(|_| Ring::default()).collect(),
            mapped: MappedMemory::default(),
            poller,
            cache,
            acked: 0,
            enabled_early: false,
            failure: None,
        })
    }

    pub(super) fn kick(&mut self, index: usize) -> Result<(), TransportError> {
        self.turn(|device, memory, queues| match memory {
            Some(memory) if queues.get(index).is_some_and(VirtQueue::ready) => {
                device.queue_event(index, memory, queues)
            }
            _ => Ok(()),
        })
    }

    /// Let the device work for a limited time, and come back to it when that was too short.
    pub(super) fn turn(
        &mut self,
        work: impl FnOnce(
            &mut dyn VirtioDevice,
            Option<&Memory>,
            &mut [VirtQueue],
        ) -> Result<(), DeviceError>,
    ) -> Result<(), TransportError> {
        let Self {
            device,
            queues,
            mapped,
            rings,
            ..
        } = self;
        for queue in queues.iter_mut() {
            queue.begin_turn();
        }
        work(device.as_mut(), mapped.memory.as_ref(), queues)?;
        for (queue, ring) in queues.iter().zip(rings) {
            if queue.interrupted()
                && let Some(mut kick) = ring.kick.as_ref()
            {
                // As if the guest had notified.
                kick.write_all(&1u64.to_ne_bytes())?;
            }
        }
        Ok(())
    }

    pub(super) fn at(&mut self, index: u32) -> VhostResult<(&mut VirtQueue, &mut Ring)> {
        let index = index as usize;
        match (self.queues.get_mut(index), self.rings.get_mut(index)) {
            (Some(queue), Some(ring)) => Ok((queue, ring)),
            _ => Err(VhostError::InvalidParam),
        }
    }

    /// Start a queue once everything about it is known, or stop it.
    pub(super) fn update(&mut self, index: u32) -> VhostResult<()> {
        let poller = self.poller.clone();
        let memory = self.mapped.memory.clone();
        let (queue, ring) = self.at(index)?;
        let complete = ring.enabled && ring.placed && ring.kick.is_some();
        if !complete {
            queue.ring.set_ready(false);
            return Ok(());
        }
        if queue.ring.ready() {
            return Ok(());
        }
        queue.ring.set_ready(true);
        if !memory.is_some_and(|memory| queue.ring.is_valid(&memory)) {
            queue.ring.set_ready(false);
            return Err(VhostError::InvalidParam);
        }
        if let Some(kick) = &ring.kick
            && !ring.watched
        {
            poller
                .watch_edges(kick.as_fd(), KICKS + index)
                .map_err(VhostError::ReqHandlerError)?;
            ring.watched = true;
        }
        // What the guest made available before.
        if let Err(failure) = self.kick(index as usize) {
            self.failure = Some(failure);
        }
        Ok(())
    }
}
