//! A driver for tests: well-behaved by default, as broken as wanted otherwise.

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::QueueT;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use super::{DeviceError, Memory, VirtQueue};

/// How much memory a test guest has.
pub(crate) const MEMORY: u64 = 4 << 20;

/// Where a test's buffers begin: the rings of up to four queues lie below.
pub(crate) const BUFFERS: u64 = 1 << 20;

/// Where a queue's rings lie behind its descriptors.
const AVAILABLE: u64 = 0x4000;
const USED: u64 = 0x8000;

/// The entries of each queue.
pub(crate) const SIZE: u16 = 64;

/// Guest memory, all zeros.
pub(crate) fn memory() -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).unwrap()
}

/// A piece of guest memory in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) writable: bool,
}

/// The driver's side of one queue.
pub(crate) struct Driver<'m> {
    memory: &'m Memory,
    base: u64,
    available: u16,
    next_descriptor: u16,
    next_used: u16,
}

impl<'m> Driver<'m> {
    /// The queue of an index, and the device's side of it.
    pub(crate) fn new(memory: &'m Memory, index: u64) -> (Self, VirtQueue) {
        let base = index * 0x10000;
        let mut queue = VirtQueue::new().unwrap();
        queue.ring.set_size(SIZE);
        queue
            .ring
            .set_desc_table_address(Some(base as u32), Some(0));
        queue
            .ring
            .set_avail_ring_address(Some((base + AVAILABLE) as u32), Some(0));
        queue
            .ring
            .set_used_ring_address(Some((base + USED) as u32), Some(0));
        queue.ring.set_ready(true);
        assert!(queue.ring.is_valid(memory));
        queue.begin_turn();
        (
            Self {
                memory,
                base,
                available: 0,
                next_descriptor: 0,
                next_used: 0,
            },
            queue,
        )
    }

    fn store(&self, index: u16, address: u64, len: u32, flags: u32, next: u16) {
        let descriptor = Descriptor::new(address, len, flags as u16, next);
        let at = self.base + 16 * u64::from(index % SIZE);
        self.memory
            .write_obj(RawDescriptor::from(descriptor), GuestAddress(at))
            .unwrap();
    }

    /// Offer one chain. Never more than [`SIZE`] descriptors may be on their way.
    pub(crate) fn offer(&mut self, pieces: &[Piece]) {
        let head = self.next_descriptor;
        for (i, piece) in pieces.iter().enumerate() {
            let index = (head + i as u16) % SIZE;
            let last = i + 1 == pieces.len();
            let flags = if piece.writable {
                VRING_DESC_F_WRITE
            } else {
                0
            } | if last { 0 } else { VRING_DESC_F_NEXT };
            self.store(index, piece.address, piece.len, flags, (index + 1) % SIZE);
        }
        self.next_descriptor = (head + pieces.len() as u16) % SIZE;
        self.publish(head);
    }

    /// Offer one chain through a table at `table`.
    pub(crate) fn offer_indirect(&mut self, pieces: &[Piece], table: u64) {
        for (i, piece) in pieces.iter().enumerate() {
            let last = i + 1 == pieces.len();
            let flags = if piece.writable {
                VRING_DESC_F_WRITE
            } else {
                0
            } | if last { 0 } else { VRING_DESC_F_NEXT };
            let descriptor = Descriptor::new(piece.address, piece.len, flags as u16, i as u16 + 1);
            let at = GuestAddress(table + 16 * i as u64);
            self.memory
                .write_obj(RawDescriptor::from(descriptor), at)
                .unwrap();
        }
        let head = self.next_descriptor;
        self.store(
            head,
            table,
            16 * pieces.len() as u32,
            VRING_DESC_F_INDIRECT,
            0,
        );
        self.next_descriptor = (head + 1) % SIZE;
        self.publish(head);
    }

    /// Write a descriptor that need not make sense.
    pub(crate) fn write_raw(&self, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        self.store(index, address, len, u32::from(flags), next);
    }

    /// Make whatever is at a descriptor available.
    pub(crate) fn publish(&mut self, head: u16) {
        let slot = u64::from(self.available % SIZE);
        self.write(self.base + AVAILABLE + 4 + 2 * slot, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        self.set_available(self.available);
    }

    /// Say that so many chains are available.
    pub(crate) fn set_available(&self, index: u16) {
        self.write(self.base + AVAILABLE + 2, &index.to_le_bytes());
    }

    /// The next chain that the device gave back: how much it wrote.
    pub(crate) fn used(&mut self) -> Option<u32> {
        if self.read(self.base + USED + 2, 2) == self.next_used.to_le_bytes() {
            return None;
        }
        let slot = u64::from(self.next_used % SIZE);
        self.next_used = self.next_used.wrapping_add(1);
        let len = self.read(self.base + USED + 4 + 8 * slot + 4, 4);
        Some(u32::from_le_bytes(len.try_into().unwrap()))
    }

    /// Read guest memory.
    pub(crate) fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.memory
            .read_slice(&mut data, GuestAddress(address))
            .unwrap();
        data
    }

    /// Write guest memory.
    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        self.memory
            .write_slice(data, GuestAddress(address))
            .unwrap();
    }
}

/// Let a device work as long as it has something to do, as a transport does.
pub(crate) fn turns<T>(
    queues: &mut [VirtQueue],
    mut work: impl FnMut(&mut [VirtQueue]) -> Result<T, DeviceError>,
) -> Result<T, DeviceError> {
    loop {
        for queue in queues.iter_mut() {
            queue.begin_turn();
        }
        let result = work(queues)?;
        if !queues.iter().any(VirtQueue::interrupted) {
            return Ok(result);
        }
    }
}

/// Descriptors of a driver that is broken or hostile, and what it says to be available.
pub(crate) mod hostile {
    use proptest::prelude::*;

    use super::{BUFFERS, MEMORY, SIZE};

    /// Index, address, length, flags, next.
    pub(crate) type Raw = (u16, u64, u32, u16, u16);

    fn address() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => BUFFERS..MEMORY,
            1 => 0..BUFFERS,
            1 => MEMORY - 64..MEMORY + 64,
            1 => any::<u64>(),
            1 => (u64::MAX - 64)..=u64::MAX,
        ]
    }

    fn len() -> impl Strategy<Value = u32> {
        prop_oneof![4 => 0u32..600, 1 => Just(16), 1 => Just(44), 1 => any::<u32>()]
    }

    /// Some descriptors.
    pub(crate) fn descriptors() -> impl Strategy<Value = Vec<Raw>> {
        let one = (
            0..SIZE,
            address(),
            len(),
            prop_oneof![4 => 0u16..4, 1 => any::<u16>()],
            0..SIZE + 2,
        );
        prop::collection::vec(one, 1..40)
    }

    /// Heads that are made available, some of them out of range.
    pub(crate) fn heads() -> impl Strategy<Value = Vec<u16>> {
        prop::collection::vec(prop_oneof![8 => 0..SIZE, 1 => any::<u16>()], 0..40)
    }
}
