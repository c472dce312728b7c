//! The register file of a virtio-mmio device (Virtio 1.2, section 4.2.2): what the driver
//! has negotiated and set up so far, and which of its writes mean something.
//!
//! A driver that does something at the wrong time is not answered with an error: there is
//! no way to. The write is ignored, and the driver reads back that it was.

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

use crate::devices::{F_VERSION_1, Memory};

/// What a driver reads first: "virt".
const MAGIC: u32 = 0x7472_6976;
/// The version of the interface that is not the legacy one.
const VERSION: u32 = 2;
/// "hull", as the vendor.
const VENDOR: u32 = 0x6c6c_7568;

/// The largest queue: it bounds what the driver allocates and fills before the first request.
pub(super) const MAX_QUEUE_SIZE: u16 = 256;

/// The registers' offsets.
pub(crate) mod offset {
    pub(crate) const MAGIC: u64 = 0x000;
    pub(crate) const VERSION: u64 = 0x004;
    pub(crate) const DEVICE_ID: u64 = 0x008;
    pub(crate) const VENDOR_ID: u64 = 0x00c;
    pub(crate) const DEVICE_FEATURES: u64 = 0x010;
    pub(crate) const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub(crate) const DRIVER_FEATURES: u64 = 0x020;
    pub(crate) const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub(crate) const QUEUE_SEL: u64 = 0x030;
    pub(crate) const QUEUE_NUM_MAX: u64 = 0x034;
    pub(crate) const QUEUE_NUM: u64 = 0x038;
    pub(crate) const QUEUE_READY: u64 = 0x044;
    pub(crate) const QUEUE_NOTIFY: u64 = 0x050;
    pub(crate) const INTERRUPT_STATUS: u64 = 0x060;
    pub(crate) const INTERRUPT_ACK: u64 = 0x064;
    pub(crate) const STATUS: u64 = 0x070;
    pub(crate) const QUEUE_DESC_LOW: u64 = 0x080;
    pub(crate) const QUEUE_DESC_HIGH: u64 = 0x084;
    pub(crate) const QUEUE_DRIVER_LOW: u64 = 0x090;
    pub(crate) const QUEUE_DRIVER_HIGH: u64 = 0x094;
    pub(crate) const QUEUE_DEVICE_LOW: u64 = 0x0a0;
    pub(crate) const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
    /// Length and address of a shared memory region, low and high halves.
    pub(crate) const SHM: std::ops::RangeInclusive<u64> = 0x0b0..=0x0bc;
    pub(crate) const CONFIG_GENERATION: u64 = 0x0fc;
    pub(crate) const CONFIG: u64 = 0x100;
}

/// The bits of the status register that mean something to a device.
pub(crate) mod status {
    pub(crate) const FEATURES_OK: u32 = 8;
    pub(crate) const DRIVER_OK: u32 = 4;
    pub(crate) const FAILED: u32 = 128;
    /// Every bit that a driver may set.
    pub(crate) const ALL: u32 = 1 | 2 | DRIVER_OK | FEATURES_OK | FAILED;
}

/// Where a queue lies in guest memory, as the driver says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct QueuePlace {
    pub(super) size: u16,
    pub(super) ready: bool,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

impl QueuePlace {
    /// Set a ring up like this. False when the place is impossible.
    pub(super) fn apply(&self, ring: &mut Queue, event_idx: bool, memory: &Memory) -> bool {
        ring.reset();
        ring.set_size(self.size);
        ring.set_event_idx(event_idx);
        let placed = ring.size() == self.size
            && ring
                .try_set_desc_table_address(GuestAddress(self.descriptors))
                .and_then(|()| ring.try_set_avail_ring_address(GuestAddress(self.available)))
                .and_then(|()| ring.try_set_used_ring_address(GuestAddress(self.used)))
                .is_ok();
        ring.set_ready(true);
        let valid = placed && ring.is_valid(memory);
        ring.set_ready(valid);
        valid
    }
}

/// What the device must do because of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Forget everything.
    Reset,
    /// The driver is ready: serve the queues.
    Start,
    /// Stop serving a queue.
    Stop(usize),
}

/// What a device is, as its registers say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) kind: u32,
    pub(super) features: u64,
}

/// The registers of one device.
#[derive(Debug)]
pub(super) struct Registers {
    identity: Identity,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    status: u32,
    queues: Vec<QueuePlace>,
}

impl Registers {
    pub(super) fn new(identity: Identity, queues: usize) -> Self {
        Self {
            identity,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
            status: 0,
            queues: vec![QueuePlace::default(); queues],
        }
    }

    /// What was negotiated.
    pub(super) fn features(&self) -> u64 {
        self.driver_features
    }

    /// The queues.
    pub(super) fn queues(&self) -> &[QueuePlace] {
        &self.queues
    }

    /// Whether the driver has said that it is ready, and nothing against it since.
    pub(super) fn running(&self) -> bool {
        self.has(status::DRIVER_OK) && !self.has(status::FAILED)
    }

    fn has(&self, bit: u32) -> bool {
        self.status & bit != 0
    }

    fn queue(&self) -> Option<&QueuePlace> {
        self.queues.get(self.queue_sel as usize)
    }

    /// A register other than those of the configuration space and the interrupt.
    pub(super) fn read(&self, register: u64) -> u32 {
        match register {
            offset::MAGIC => MAGIC,
            offset::VERSION => VERSION,
            offset::DEVICE_ID => self.identity.kind,
            offset::VENDOR_ID => VENDOR,
            offset::DEVICE_FEATURES => half(self.identity.features, self.device_features_sel),
            offset::QUEUE_NUM_MAX => self.queue().map_or(0, |_| u32::from(MAX_QUEUE_SIZE)),
            offset::QUEUE_READY => self.queue().map_or(0, |queue| u32::from(queue.ready)),
            offset::STATUS => self.status,
            // All ones: there is no such region.
            register if offset::SHM.contains(&register) => u32::MAX,
            // No device's configuration changes while a driver looks at it.
            offset::CONFIG_GENERATION => 0,
            _ => 0,
        }
    }

    /// A write to a register other than those of the configuration space and the interrupt.
    pub(super) fn write(&mut self, register: u64, value: u32, memory: &Memory) -> Action {
        match register {
            offset::DEVICE_FEATURES_SEL => self.device_features_sel = value,
            offset::DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            offset::DRIVER_FEATURES if !self.has(status::FEATURES_OK) => {
                set_half(
                    &mut self.driver_features,
                    self.driver_features_sel == 0,
                    value,
                    self.driver_features_sel <= 1,
                );
            }
            offset::QUEUE_SEL => self.queue_sel = value,
            offset::QUEUE_READY if value == 0 => return self.stop_queue(),
            offset::STATUS => return self.set_status(value),
            _ => self.place_queue(register, value, memory),
        }
        Action::Nothing
    }

    fn stop_queue(&mut self) -> Action {
        let index = self.queue_sel as usize;
        let running = self.running();
        match self.queues.get_mut(index) {
            Some(queue) if queue.ready => {
                queue.ready = false;
                if running {
                    Action::Stop(index)
                } else {
                    Action::Nothing
                }
            }
            _ => Action::Nothing,
        }
    }

    /// Queues are set up between the negotiation and the moment when the driver is ready.
    fn place_queue(&mut self, register: u64, value: u32, memory: &Memory) {
        if !self.has(status::FEATURES_OK) || self.has(status::DRIVER_OK) {
            return;
        }
        let Some(queue) = self.queues.get_mut(self.queue_sel as usize) else {
            return;
        };
        if queue.ready {
            return;
        }
        match register {
            offset::QUEUE_NUM => {
                let size = u16::try_from(value).unwrap_or(0);
                let possible = size.is_power_of_two() && size <= MAX_QUEUE_SIZE;
                queue.size = if possible { size } else { 0 };
            }
            offset::QUEUE_DESC_LOW => set_half(&mut queue.descriptors, true, value, true),
            offset::QUEUE_DESC_HIGH => set_half(&mut queue.descriptors, false, value, true),
            offset::QUEUE_DRIVER_LOW => set_half(&mut queue.available, true, value, true),
            offset::QUEUE_DRIVER_HIGH => set_half(&mut queue.available, false, value, true),
            offset::QUEUE_DEVICE_LOW => set_half(&mut queue.used, true, value, true),
            offset::QUEUE_DEVICE_HIGH => set_half(&mut queue.used, false, value, true),
            offset::QUEUE_READY if value == 1 => {
                let possible = Queue::new(MAX_QUEUE_SIZE)
                    .is_ok_and(|mut ring| queue.size > 0 && queue.apply(&mut ring, false, memory));
                queue.ready = possible;
            }
            _ => {}
        }
    }

    fn set_status(&mut self, value: u32) -> Action {
        if value == 0 {
            *self = Self::new(self.identity, self.queues.len());
            return Action::Reset;
        }
        let before = self.running();
        // A driver may only add bits.
        let mut added = value & status::ALL & !self.status;
        if added & status::FEATURES_OK != 0 {
            let unknown = self.driver_features & !self.identity.features != 0;
            // Without version 1 nothing here works.
            if unknown || self.driver_features & F_VERSION_1 == 0 {
                added &= !status::FEATURES_OK;
            }
        }
        if added & status::DRIVER_OK != 0 && (self.status | added) & status::FEATURES_OK == 0 {
            added &= !status::DRIVER_OK;
        }
        self.status |= added;
        match (before, self.running()) {
            (false, true) => Action::Start,
            // The driver gave up.
            (true, false) => Action::Reset,
            _ => Action::Nothing,
        }
    }
}

fn half(value: u64, select: u32) -> u32 {
    match select {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

fn set_half(target: &mut u64, low: bool, value: u32, valid: bool) {
    if valid {
        let shift = if low { 0 } else { 32 };
        *target = *target & !(0xffff_ffff << shift) | u64::from(value) << shift;
    }
}
