//! A device that this process serves.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use virtio_queue::QueueT;

use super::backend::Backend;
use super::registers::QueuePlace;
use crate::devices::{
    DeviceError, F_EVENT_IDX, Interrupt, InterruptLine, Memory, VirtQueue, VirtioDevice,
};
use crate::poll::Ready;
use crate::transport::TransportError;

/// The device, its queues and the guest's memory.
pub(crate) struct Local {
    device: Box<dyn VirtioDevice>,
    queues: Vec<VirtQueue>,
    memory: Memory,
    /// What the guest notifies the queues with.
    kicks: Vec<File>,
    line: Arc<InterruptLine>,
    started: bool,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local")
            .field("kind", &self.device.kind())
            .finish_non_exhaustive()
    }
}

impl Local {
    /// Serve a device whose queues are notified with `kicks`.
    pub(super) fn new(
        device: Box<dyn VirtioDevice>,
        memory: Memory,
        kicks: Vec<File>,
        line: Arc<InterruptLine>,
    ) -> Result<Self, TransportError> {
        let queues = (0..device.queues())
            .map(|_| VirtQueue::new())
            .collect::<Result<Vec<_>, _>>()
            .map_err(DeviceError::Queue)?;
        Ok(Self {
            device,
            queues,
            memory,
            kicks,
            line,
            started: false,
        })
    }

    /// Let the device work for a limited time, and come back to it when that was too short.
    fn turn(
        &mut self,
        work: impl FnOnce(&mut dyn VirtioDevice, &Memory, &mut [VirtQueue]) -> Result<(), DeviceError>,
    ) -> Result<(), TransportError> {
        for queue in &mut self.queues {
            queue.begin_turn();
        }
        work(self.device.as_mut(), &self.memory, &mut self.queues)?;
        for (queue, mut kick) in self.queues.iter().zip(&self.kicks) {
            if queue.interrupted() {
                // As if the guest had notified.
                kick.write_all(&1u64.to_ne_bytes())?;
            }
        }
        Ok(())
    }
}

impl Backend for Local {
    fn kind(&self) -> u32 {
        self.device.kind()
    }

    fn features(&self) -> u64 {
        self.device.features()
    }

    fn queues(&self) -> usize {
        self.queues.len()
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        self.device.read_config(offset, data);
    }

    fn start(&mut self, features: u64, places: &[QueuePlace]) -> Result<(), TransportError> {
        let event_idx = features & F_EVENT_IDX != 0;
        self.device.negotiated(features);
        for ((queue, place), mut kick) in self.queues.iter_mut().zip(places).zip(&self.kicks) {
            if !place.ready || !place.apply(&mut queue.ring, event_idx, &self.memory) {
                continue;
            }
            queue.interrupt = Some(Interrupt::Line(self.line.clone()));
            // What the driver made available before.
            kick.write_all(&1u64.to_ne_bytes())?;
        }
        self.started = true;
        Ok(())
    }

    fn stop(&mut self, index: usize) -> Result<(), TransportError> {
        if let Some(queue) = self.queues.get_mut(index) {
            queue.ring.set_ready(false);
            queue.interrupt = None;
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<(), TransportError> {
        if std::mem::take(&mut self.started) {
            for index in 0..self.queues.len() {
                self.stop(index)?;
            }
            self.device.reset();
        }
        Ok(())
    }

    fn kick(&mut self, index: usize) -> Result<(), TransportError> {
        // What was announced is served now.
        if !self.queues.get(index).is_some_and(VirtQueue::ready) {
            return Ok(());
        }
        self.turn(|device, memory, queues| device.queue_event(index, memory, queues))
    }

    fn device_event(&mut self, ready: Ready) -> Result<(), TransportError> {
        self.turn(|device, memory, queues| {
            device.fd_event(ready.token, ready.readiness, memory, queues)
        })
    }

    fn connect(&mut self, port: u32, stream: UnixStream) -> Result<(), TransportError> {
        self.turn(|device, memory, queues| device.connect(port, stream, Some(memory), queues))
    }

    fn attach(&mut self, place: u16, file: Option<File>) -> Result<(), TransportError> {
        self.turn(|device, memory, queues| device.attach(place, file, Some(memory), queues))
    }
}
