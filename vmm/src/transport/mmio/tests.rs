//! A driver that knows registers and rings from the standard, and shares no code with the
//! device's side; and one that knows nothing and writes anywhere.

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::registers::offset as at;
use super::*;
use crate::devices::rng::Rng;

const SIZE: usize = 1 << 20;
const VERSION_1: u32 = 1;
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const DATA: u64 = 0x8000;

fn memory() -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), SIZE)]).unwrap()
}

/// A random-number device.
fn device() -> (Arc<Mmio>, Memory, Poller) {
    let (memory, poller) = (memory(), Poller::new().unwrap());
    let own = poller.for_owner(1);
    let device = Mmio::local(Box::new(Rng), memory.clone(), &own).unwrap();
    (Arc::new(device), memory, poller)
}

fn read(device: &Mmio, register: u64) -> u32 {
    let mut word = [0xee; 4];
    device.read(register, &mut word);
    u32::from_le_bytes(word)
}

fn write(device: &Mmio, register: u64, value: u32) {
    device.write(register, &value.to_le_bytes()).unwrap();
}

/// Everything up to the features.
fn negotiate(device: &Mmio, low: u32, high: u32) -> bool {
    write(device, at::STATUS, 0);
    write(device, at::STATUS, 1);
    write(device, at::STATUS, 3);
    write(device, at::DRIVER_FEATURES_SEL, 0);
    write(device, at::DRIVER_FEATURES, low);
    write(device, at::DRIVER_FEATURES_SEL, 1);
    write(device, at::DRIVER_FEATURES, high);
    write(device, at::STATUS, 11);
    read(device, at::STATUS) == 11
}

/// Place queue 0.
fn place(device: &Mmio, size: u32, [descriptors, available, used]: [u64; 3]) -> bool {
    write(device, at::QUEUE_SEL, 0);
    write(device, at::QUEUE_NUM, size);
    for (low, high, value) in [
        (at::QUEUE_DESC_LOW, at::QUEUE_DESC_HIGH, descriptors),
        (at::QUEUE_DRIVER_LOW, at::QUEUE_DRIVER_HIGH, available),
        (at::QUEUE_DEVICE_LOW, at::QUEUE_DEVICE_HIGH, used),
    ] {
        write(device, low, value as u32);
        write(device, high, (value >> 32) as u32);
    }
    write(device, at::QUEUE_READY, 1);
    read(device, at::QUEUE_READY) == 1
}

/// Offer request number `count` of `len` random bytes, and let the device serve it.
fn request(device: &mut Arc<Mmio>, memory: &Memory, count: u16, len: u32) {
    let put = |address: u64, bytes: &[u8]| {
        memory.write_slice(bytes, GuestAddress(address)).unwrap();
    };
    put(DESCRIPTORS, &DATA.to_le_bytes());
    put(DESCRIPTORS + 8, &len.to_le_bytes());
    put(DESCRIPTORS + 12, &2u16.to_le_bytes());
    put(AVAILABLE + 2, &count.to_le_bytes());
    let ready = Ready {
        owner: 1,
        token: 0,
        readiness: 1,
    };
    device.transport_event(ready).unwrap();
}

fn used(memory: &Memory) -> u16 {
    memory.read_obj(GuestAddress(USED + 2)).unwrap()
}

#[test]
fn a_driver_finds_the_device_and_is_served() {
    let (mut device, memory, _poller) = device();
    assert_eq!(read(&device, at::MAGIC), 0x7472_6976);
    assert_eq!(read(&device, at::VERSION), 2);
    assert_eq!(read(&device, at::DEVICE_ID), 4);
    write(&device, at::DEVICE_FEATURES_SEL, 1);
    assert_eq!(read(&device, at::DEVICE_FEATURES) & 1, VERSION_1);
    assert_eq!(read(&device, *at::SHM.start()), u32::MAX);
    assert!(negotiate(&device, 0, VERSION_1));
    assert_eq!(read(&device, at::QUEUE_READY), 0);
    assert!(read(&device, at::QUEUE_NUM_MAX) >= 8);
    assert!(place(&device, 8, [DESCRIPTORS, AVAILABLE, USED]));
    // Nothing is served before the driver is ready.
    request(&mut device, &memory, 1, 64);
    assert_eq!(used(&memory), 0);
    write(&device, at::STATUS, 15);
    request(&mut device, &memory, 1, 64);
    assert_eq!(used(&memory), 1);
    let length: u32 = memory.read_obj(GuestAddress(USED + 8)).unwrap();
    assert_eq!(length, 64);
    assert_eq!(read(&device, at::INTERRUPT_STATUS), 1);
    write(&device, at::INTERRUPT_ACK, 1);
    assert_eq!(read(&device, at::INTERRUPT_STATUS), 0);
    // A stopped queue is not served.
    write(&device, at::QUEUE_READY, 0);
    assert_eq!(read(&device, at::QUEUE_READY), 0);
    request(&mut device, &memory, 2, 64);
    assert_eq!(used(&memory), 1);
}

#[test]
fn after_a_reset_everything_begins_anew() {
    let (mut device, memory, _poller) = device();
    for _ in 0..3 {
        memory.write_slice(&[0; 64], GuestAddress(USED)).unwrap();
        memory
            .write_slice(&[0; 64], GuestAddress(AVAILABLE))
            .unwrap();
        assert!(negotiate(&device, 0, VERSION_1));
        assert!(place(&device, 4, [DESCRIPTORS, AVAILABLE, USED]));
        write(&device, at::STATUS, 15);
        request(&mut device, &memory, 1, 16);
        assert_eq!(used(&memory), 1);
        write(&device, at::STATUS, 0);
        assert_eq!(read(&device, at::STATUS), 0);
        assert_eq!(read(&device, at::INTERRUPT_STATUS), 0);
        assert_eq!(read(&device, at::QUEUE_READY), 0);
        request(&mut device, &memory, 2, 16);
        assert_eq!(used(&memory), 1);
    }
}

#[test]
fn what_cannot_be_is_not_accepted() {
    let (device, _memory, _poller) = device();
    // Without version 1, and with features that were not offered.
    assert!(!negotiate(&device, 0, 0));
    assert!(!negotiate(&device, 1, VERSION_1));
    // Queues before the negotiation, and places outside of memory.
    write(&device, at::STATUS, 0);
    assert!(!place(&device, 8, [DESCRIPTORS, AVAILABLE, USED]));
    assert!(negotiate(&device, 0, VERSION_1));
    let end = SIZE as u64;
    for places in [
        [end - 16, AVAILABLE, USED],
        [DESCRIPTORS, end - 2, USED],
        [DESCRIPTORS, AVAILABLE, end - 4],
        [u64::MAX - 15, AVAILABLE, USED],
        [DESCRIPTORS + 1, AVAILABLE, USED],
        [DESCRIPTORS, AVAILABLE + 1, USED],
        [DESCRIPTORS, AVAILABLE, USED + 2],
    ] {
        assert!(!place(&device, 8, places), "{places:x?}");
    }
    for size in [0, 3, 512, 1 << 16, u32::MAX] {
        assert!(!place(&device, size, [DESCRIPTORS, AVAILABLE, USED]));
    }
    assert!(place(&device, 8, [DESCRIPTORS, AVAILABLE, USED]));
    // Features are settled.
    write(&device, at::DRIVER_FEATURES, 0);
    assert_eq!(read(&device, at::STATUS), 11);
}

fn register() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0u64..0x40).prop_map(|index| index * 4),
        1 => 0u64..0x1000,
        4 => prop::sample::select(vec![
            at::STATUS, at::QUEUE_READY, at::QUEUE_NUM, at::DRIVER_FEATURES, at::QUEUE_SEL,
            at::QUEUE_DESC_LOW, at::QUEUE_DRIVER_LOW, at::QUEUE_DEVICE_LOW,
        ]),
    ]
}

fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        0u32..16,
        any::<u32>(),
        prop::sample::select(vec![0x1000u32, 0x2000, 0x3000, 0x10_0000, 0xf_fff0]),
    ]
}

proptest! {
    /// Whatever a driver writes, wherever, and whatever its rings say, the device works, or
    /// fails with an error; and it never accepts what it did not offer.
    #[test]
    fn hostile_drivers_are_harmless(
        steps in prop::collection::vec((register(), value(), 0usize..9, any::<bool>()), 1..200),
        rings in prop::collection::vec(any::<u8>(), 0..0x3000),
        negotiated: bool,
    ) {
        let (mut device, memory, _poller) = device();
        memory.write_slice(&rings, GuestAddress(0x1000)).unwrap();
        if negotiated {
            prop_assert!(negotiate(&device, 0x3000_0000, VERSION_1));
            prop_assert!(place(&device, 8, [DESCRIPTORS, AVAILABLE, USED]));
            write(&device, at::STATUS, 15);
        }
        for (register, value, len, kick) in steps {
            let mut bytes = [0; 8];
            device.read(register, &mut bytes[..len.min(8)]);
            let word = value.to_le_bytes();
            if device.write(register, &word[..len.min(4)]).is_err() {
                return Ok(());
            }
            let status = read(&device, at::STATUS);
            prop_assert_eq!(status & !(1 | 2 | 4 | 8 | 128), 0);
            // A driver cannot be ready without features.
            prop_assert!(status & 4 == 0 || status & 8 != 0);
            if kick {
                let ready = Ready { owner: 1, token: value % 3, readiness: 1 };
                if device.transport_event(ready).is_err() {
                    return Ok(());
                }
            }
        }
    }
}
