//! One virtqueue and the interrupt that belongs to it.

use std::time::{Duration, Instant};

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};

use super::{DeviceError, Interrupt, Memory};
use crate::trace;

/// The largest queue that a guest may set up.
pub(crate) const MAX_QUEUE_SIZE: u16 = 1024;

/// How long a device may work on a queue before other events have their turn: a guest that
/// makes work without end must not keep the machine's creator from being heard.
const TURN: Duration = Duration::from_millis(20);

/// A queue as a device sees it.
#[derive(Debug)]
pub(crate) struct VirtQueue {
    /// The ring state, which the transport sets up.
    pub(crate) ring: Queue,
    /// Where to interrupt the guest, once the transport knows.
    pub(crate) interrupt: Option<Interrupt>,
    /// When the device shall stop popping, so that others have their turn.
    deadline: Instant,
    /// Whether the device was stopped while chains may be left.
    interrupted: bool,
    /// Whether used descriptors have been added since the last interrupt decision.
    used: bool,
}

impl VirtQueue {
    /// A queue that the guest has not set up yet.
    pub(crate) fn new() -> Result<Self, virtio_queue::Error> {
        Ok(Self {
            ring: Queue::new(MAX_QUEUE_SIZE)?,
            interrupt: None,
            deadline: Instant::now(),
            interrupted: false,
            used: false,
        })
    }

    /// Begin to serve an event.
    pub(crate) fn begin_turn(&mut self) {
        self.deadline = Instant::now() + TURN;
        self.interrupted = false;
    }

    /// Whether the device had to stop before everything was done.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted
    }

    /// Whether the guest has set it up.
    pub(crate) fn ready(&self) -> bool {
        self.ring.ready()
    }

    /// The next chain of descriptors that the guest made available.
    pub(crate) fn pop<'m>(
        &mut self,
        memory: &'m Memory,
    ) -> Result<Option<DescriptorChain<&'m Memory>>, DeviceError> {
        if !self.ring.ready() {
            return Ok(None);
        }
        if Instant::now() > self.deadline {
            self.interrupted = true;
            return Ok(None);
        }
        Ok(self.ring.iter(memory)?.next())
    }

    /// Hand the chain popped last back as if it had never been popped.
    pub(crate) fn undo_pop(&mut self) {
        self.ring.go_to_previous_position();
    }

    /// Give a chain back to the guest, with the number of bytes written to it.
    pub(crate) fn push(
        &mut self,
        memory: &Memory,
        head: u16,
        written: u32,
    ) -> Result<(), DeviceError> {
        self.used = true;
        if let Some(tracer) = trace::get() {
            tracer.written_to_guest(written);
        }
        Ok(self.ring.add_used(memory, head, written)?)
    }

    /// Interrupt the guest if chains were given back and it wants to know.
    pub(crate) fn notify(&mut self, memory: &Memory) -> Result<(), DeviceError> {
        if !std::mem::take(&mut self.used) {
            return Ok(());
        }
        if self.ring.needs_notification(memory)?
            && let Some(interrupt) = &self.interrupt
        {
            interrupt.trigger()?;
        }
        Ok(())
    }

    /// Ask the guest not to notify while the queue is being worked on.
    pub(crate) fn pause_kicks(&mut self, memory: &Memory) -> Result<(), DeviceError> {
        Ok(self.ring.disable_notification(memory)?)
    }

    /// Ask the guest to notify again; true when it has added chains
    /// meanwhile that can be served in this turn.
    pub(crate) fn resume_kicks(&mut self, memory: &Memory) -> Result<bool, DeviceError> {
        // A guest that adds chains forever is served again at the next turn.
        Ok(self.ring.enable_notification(memory)? && !self.interrupted)
    }
}
