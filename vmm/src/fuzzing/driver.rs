//! A driver that does what a script says, over registers and rings.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use vm_memory::{Bytes, GuestAddress};

use super::input::Input;
use super::memory::{self, SIZE};
use crate::devices::{F_VERSION_1, Memory, VirtioDevice};
use crate::eventfd;
use crate::poll::{Poller, Ready};
use crate::transport::mmio::{Mmio, offset as at};
use crate::transport::{Transport, TransportError};

/// Owners of descriptors at the poller.
const NOBODY: u32 = 0;
const TRANSPORT: u32 = 1;
const DEVICE: u32 = 2;

/// Rings of queue `n` lie from `n * RINGS` on.
const RINGS: u64 = 0x1000;
const AVAILABLE: u64 = 0x400;
const USED: u64 = 0x800;
const ENTRIES: u16 = 16;

/// Buffers begin here.
const BUFFERS: u64 = 4 * RINGS;

/// How often it is looked whether something is ready, after one step.
const LOOKS: usize = 16;

/// A device without a host.
pub(super) fn nothing(_: &mut Arc<Mmio>, _: &mut Input<'_>) -> Result<(), TransportError> {
    Ok(())
}

/// The driver, and what stands behind the registers.
#[derive(Debug)]
pub(super) struct Driver {
    device: Arc<Mmio>,
    memory: Memory,
    poller: Poller,
    /// Always ready, so that nothing waits.
    _alarm: File,
    available: [u16; 4],
    next_descriptor: u16,
}

impl Driver {
    /// A driver that has not begun. `make` gets a poller for the device alone.
    pub(super) fn new(make: impl FnOnce(Poller) -> Box<dyn VirtioDevice>) -> Self {
        let (memory, poller) = (memory::zeroed(), Poller::new().unwrap());
        let mut alarm = eventfd::new().unwrap();
        alarm.write_all(&1u64.to_ne_bytes()).unwrap();
        poller.for_owner(NOBODY).watch(alarm.as_fd(), 0).unwrap();
        let device = make(poller.for_owner(DEVICE));
        let own = poller.for_owner(TRANSPORT);
        let device = Mmio::local(device, memory.clone(), &own).unwrap();
        Self {
            device: Arc::new(device),
            memory,
            poller,
            _alarm: alarm,
            available: [0; 4],
            next_descriptor: 0,
        }
    }

    /// Do what the script says, until its end or the machine's. `host` is what the host does.
    pub(super) fn run(
        &mut self,
        input: &mut Input<'_>,
        mut host: impl FnMut(&mut Arc<Mmio>, &mut Input<'_>) -> Result<(), TransportError>,
    ) {
        while !input.is_empty() {
            if self.step(input, &mut host).is_err() {
                return;
            }
            self.check();
        }
        if self.pump().is_ok() && self.write(at::STATUS, 0).is_ok() {
            assert_eq!(self.read(at::STATUS), 0);
            assert_eq!(self.read(at::INTERRUPT_STATUS), 0);
        }
    }

    fn step(
        &mut self,
        input: &mut Input<'_>,
        host: &mut impl FnMut(&mut Arc<Mmio>, &mut Input<'_>) -> Result<(), TransportError>,
    ) -> Result<(), TransportError> {
        match input.byte() % 12 {
            0 => self.set_up(input),
            1 => self.write(u64::from(input.byte()) * 4, input.word()),
            2 => {
                let mut data = [0; 8];
                let (register, len) = (input.half(), input.byte() % 9);
                self.device
                    .read(u64::from(register), &mut data[..usize::from(len)]);
                Ok(())
            }
            3 => {
                let (register, len) = (input.half(), input.byte() % 9);
                let data = input.bytes(usize::from(len));
                self.device.write(u64::from(register), data)
            }
            4 => {
                let (place, len) = (u64::from(input.half()), input.byte());
                self.put(place * 2, input.bytes(usize::from(len)));
                Ok(())
            }
            5 => {
                self.descriptor(input);
                Ok(())
            }
            6 => {
                let (queue, head) = (input.byte(), input.half());
                self.publish(queue, head)
            }
            7 => {
                let (queue, index) = (input.byte(), input.half());
                self.set_available(queue, index);
                self.kick(queue)
            }
            8 => self.kick(input.byte()),
            9 => host(&mut self.device, input),
            10 => self.pump(),
            _ => self.chain(input),
        }
    }

    /// What always holds.
    fn check(&self) {
        let status = self.read(at::STATUS);
        assert_eq!(status & !(1 | 2 | 4 | 8 | 128), 0);
        assert!(status & 4 == 0 || status & 8 != 0, "ready without features");
        assert_eq!(self.read(at::MAGIC), 0x7472_6976);
    }

    fn read(&self, register: u64) -> u32 {
        let mut word = [0; 4];
        self.device.read(register, &mut word);
        u32::from_le_bytes(word)
    }

    fn write(&self, register: u64, value: u32) -> Result<(), TransportError> {
        self.device.write(register, &value.to_le_bytes())
    }

    /// Store, as far as there is memory.
    fn put(&self, address: u64, bytes: &[u8]) {
        let _ = self.memory.write(bytes, GuestAddress(address));
    }

    /// Everything that a good driver does, with some of the features.
    fn set_up(&mut self, input: &mut Input<'_>) -> Result<(), TransportError> {
        let wanted = input.long() | F_VERSION_1;
        self.write(at::STATUS, 0)?;
        self.put(0, &[0; BUFFERS as usize]);
        (self.available, self.next_descriptor) = ([0; 4], 0);
        self.write(at::STATUS, 3)?;
        for half in 0..2 {
            self.write(at::DEVICE_FEATURES_SEL, half)?;
            let offered = self.read(at::DEVICE_FEATURES);
            self.write(at::DRIVER_FEATURES_SEL, half)?;
            self.write(
                at::DRIVER_FEATURES,
                offered & (wanted >> (32 * half)) as u32,
            )?;
        }
        self.write(at::STATUS, 11)?;
        assert_eq!(self.read(at::STATUS), 11, "offered features are refused");
        for queue in 0..self.device.kicks().len() {
            let base = queue as u32 * RINGS as u32;
            for (register, value) in [
                (at::QUEUE_SEL, queue as u32),
                (at::QUEUE_NUM, u32::from(ENTRIES)),
                (at::QUEUE_DESC_LOW, base),
                (at::QUEUE_DRIVER_LOW, base + AVAILABLE as u32),
                (at::QUEUE_DEVICE_LOW, base + USED as u32),
                (at::QUEUE_READY, 1),
            ] {
                self.write(register, value)?;
            }
            assert_eq!(self.read(at::QUEUE_READY), 1, "a good queue is refused");
        }
        self.write(at::STATUS, 15)
    }

    /// Write any descriptor.
    fn descriptor(&self, input: &mut Input<'_>) {
        let (queue, index) = (u64::from(input.byte() % 4), u64::from(input.byte() % 16));
        let address = match input.byte() % 4 {
            0 => input.long(),
            1 => (SIZE as u64).wrapping_add(u64::from(input.byte())) - 128,
            _ => u64::from(input.half()) * 2,
        };
        let len = match input.byte() % 4 {
            0 => input.word(),
            _ => u32::from(input.half()),
        };
        let (flags, next) = (input.half(), input.half());
        self.store(queue * RINGS + 16 * index, address, len, (flags, next));
    }

    fn store(&self, place: u64, address: u64, len: u32, (flags, next): (u16, u16)) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.put(place, &bytes);
    }

    /// Offer a request as a good driver does: bytes for the device, room for its answer.
    fn chain(&mut self, input: &mut Input<'_>) -> Result<(), TransportError> {
        let (queue, shape) = (input.byte(), input.byte());
        let (out, room) = (usize::from(input.byte()), u64::from(input.half()));
        let out = out * if shape & 0x80 != 0 { 16 } else { 1 };
        let place = BUFFERS + u64::from(shape % 8) * 0x1000;
        let bytes = input.bytes(out);
        self.put(place, bytes);
        let answer = BUFFERS + 0x8000;
        let room = room.min(SIZE as u64 - answer);
        // Cut in two, somewhere.
        let cut = u64::from(input.byte());
        let mut pieces = Vec::new();
        for (address, len, flag) in [
            (place, bytes.len() as u64, 0),
            (answer, room, VRING_DESC_F_WRITE),
        ] {
            let first = cut.min(len);
            pieces.push((address, first, flag));
            pieces.push((address + first, len - first, flag));
        }
        pieces.retain(|piece| piece.1 > 0);
        let indirect = shape & 0x40 != 0;
        let base = u64::from(queue % 4) * RINGS;
        let table = BUFFERS + 0x7000;
        let head = self.next_descriptor;
        let count = pieces.len() as u16;
        for (number, (address, len, flag)) in pieces.into_iter().enumerate() {
            let number = number as u16;
            let more = if number + 1 < count {
                VRING_DESC_F_NEXT
            } else {
                0
            };
            let (place, next) = if indirect {
                (table + 16 * u64::from(number), number + 1)
            } else {
                let index = (head + number) % ENTRIES;
                (base + 16 * u64::from(index), (index + 1) % ENTRIES)
            };
            self.store(place, address, len as u32, ((flag | more) as u16, next));
        }
        if indirect {
            let place = base + 16 * u64::from(head);
            let flags = VRING_DESC_F_INDIRECT as u16;
            self.store(place, table, 16 * u32::from(count), (flags, 0));
        }
        let used = if indirect { 1 } else { count };
        self.next_descriptor = (head + used) % ENTRIES;
        self.publish(queue, head)
    }

    fn publish(&mut self, queue: u8, head: u16) -> Result<(), TransportError> {
        let number = usize::from(queue % 4);
        let base = number as u64 * RINGS;
        let slot = u64::from(self.available[number] % ENTRIES);
        self.put(base + AVAILABLE + 4 + 2 * slot, &head.to_le_bytes());
        let index = self.available[number].wrapping_add(1);
        self.set_available(queue, index);
        self.kick(queue)
    }

    fn set_available(&mut self, queue: u8, index: u16) {
        let number = usize::from(queue % 4);
        self.available[number] = index;
        self.put(number as u64 * RINGS + AVAILABLE + 2, &index.to_le_bytes());
    }

    /// Notify a queue, as the hypervisor reports it.
    fn kick(&mut self, queue: u8) -> Result<(), TransportError> {
        self.device.transport_event(Ready {
            owner: TRANSPORT,
            token: u32::from(queue % 4),
            readiness: libc::EPOLLIN as u32,
        })
    }

    /// Serve what is ready.
    fn pump(&mut self) -> Result<(), TransportError> {
        let mut ready = Vec::new();
        for _ in 0..LOOKS {
            self.poller.wait(&mut ready)?;
            ready.retain(|event: &Ready| event.owner != NOBODY);
            if ready.is_empty() {
                break;
            }
            for event in &ready {
                match event.owner {
                    TRANSPORT => self.device.transport_event(*event)?,
                    _ => self.device.device_event(*event)?,
                }
            }
        }
        Ok(())
    }
}
