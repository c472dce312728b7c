//! A device that serves nothing, and checks what transports promise to devices.

use crate::devices::{
    DeviceError, F_VERSION_1, Memory, RING_FEATURES, VirtQueue, VirtioDevice, copy_config,
};
use virtio_queue::QueueT;

const QUEUES: usize = 3;
/// Some features of its own.
const FEATURES: u64 = RING_FEATURES | 0b1101;
const CONFIGURATION: [u8; 24] = [7; 24];

/// The device.
#[derive(Debug)]
pub(super) struct Witness {
    /// Its transport promises that nothing is served before features are chosen, with version
    /// 1 among them.
    strict: bool,
    negotiated: bool,
}

impl Witness {
    /// Behind registers.
    pub(super) fn strict() -> Self {
        Self {
            strict: true,
            negotiated: false,
        }
    }

    /// Behind vhost-user, where the front end has the registers.
    pub(super) fn lenient() -> Self {
        Self {
            strict: false,
            negotiated: false,
        }
    }
}

impl VirtioDevice for Witness {
    fn kind(&self) -> u32 {
        crate::devices::kind::RNG
    }

    fn queues(&self) -> usize {
        QUEUES
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        copy_config(&CONFIGURATION, offset, data);
    }

    fn negotiated(&mut self, features: u64) {
        assert_eq!(features & !FEATURES, 0, "never offered");
        if self.strict {
            assert_ne!(features & F_VERSION_1, 0, "nothing works without");
        }
        self.negotiated = true;
    }

    fn queue_event(
        &mut self,
        index: usize,
        memory: &Memory,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        assert!(
            self.negotiated || !self.strict,
            "a queue is served before the driver is ready"
        );
        assert_eq!(queues.len(), QUEUES);
        let queue = &mut queues[index];
        assert!(queue.ready(), "a queue is served that is not set up");
        assert!(queue.ring.is_valid(memory), "a queue is out of memory");
        queue.pause_kicks(memory)?;
        while let Some(chain) = queue.pop(memory)? {
            let head = chain.head_index();
            // A chain ends, whatever it says.
            assert!(chain.count() <= 2 * usize::from(u16::MAX));
            queue.push(memory, head, 0)?;
        }
        queue.notify(memory)?;
        queue.resume_kicks(memory)?;
        Ok(())
    }

    fn reset(&mut self) {
        self.negotiated = false;
    }
}
