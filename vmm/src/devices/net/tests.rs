use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use proptest::prelude::*;

use super::*;
use crate::devices::testing::{BUFFERS, Driver, Piece, hostile, memory, turns};

/// The length of the test guest's receive buffers.
const RX_LEN: u32 = 4096;

/// Where the test guest puts what it sends.
const TX_AT: u64 = BUFFERS + (1 << 20);

/// A guest with a correct driver; the other end of the cable is a socket that keeps frames
/// apart, as a TAP device does.
struct Guest<'m> {
    memory: &'m Memory,
    device: Net,
    wire: File,
    rx: Driver<'m>,
    tx: Driver<'m>,
    queues: [VirtQueue; 2],
    offered: u64,
    taken: u64,
}

fn cable() -> (File, File) {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    let file = |fd: OwnedFd| File::from(fd);
    (file(pair.0), file(pair.1))
}

impl<'m> Guest<'m> {
    fn new(memory: &'m Memory, features: u64) -> Self {
        let poller = Poller::new().unwrap();
        let mut device = Net::new([2, 0, 0, 0, 0, 1], poller.for_owner(1));
        device.negotiated(features);
        let (rx, rx_queue) = Driver::new(memory, 0);
        let (tx, tx_queue) = Driver::new(memory, 1);
        let (wire, tap) = cable();
        let mut guest = Self {
            memory,
            device,
            wire,
            rx,
            tx,
            queues: [rx_queue, tx_queue],
            offered: 0,
            taken: 0,
        };
        guest
            .turn(|device, memory, queues| {
                device.attach(0, Some(tap.try_clone()?), Some(memory), queues)
            })
            .unwrap();
        guest
    }

    fn turn(
        &mut self,
        mut work: impl FnMut(&mut Net, &Memory, &mut [VirtQueue]) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let Self {
            device,
            memory,
            queues,
            ..
        } = self;
        turns(queues, |queues| work(device, memory, queues))
    }

    fn offer(&mut self, count: u64) {
        for _ in 0..count {
            self.rx.offer(&[Piece {
                address: BUFFERS + self.offered % 32 * u64::from(RX_LEN),
                len: RX_LEN,
                writable: true,
            }]);
            self.offered += 1;
        }
    }

    fn poll(&mut self) {
        self.poll_vlan(0);
    }

    fn poll_vlan(&mut self, vlan: u16) {
        self.turn(|device, memory, queues| device.fd_event(vlan.into(), 0, memory, queues))
            .unwrap();
    }

    /// Another cable, for the frames of a VLAN; the network's end of it.
    fn plug(&mut self, vlan: u16) -> File {
        let (wire, tap) = cable();
        self.turn(|device, memory, queues| {
            device.attach(vlan, Some(tap.try_clone()?), Some(memory), queues)
        })
        .unwrap();
        wire
    }

    /// The next frame that the device gave: the number of its buffers and its bytes.
    fn receive(&mut self) -> Option<(u16, Vec<u8>)> {
        let mut bytes = Vec::new();
        let mut left = 1;
        let mut merged = 0;
        while left > 0 {
            let used = self.rx.used()? as usize;
            let at = BUFFERS + self.taken % 32 * u64::from(RX_LEN);
            self.taken += 1;
            bytes.extend(self.rx.read(at, used));
            if merged == 0 {
                merged = u16::from_le_bytes([bytes[10], bytes[11]]);
                left = merged;
            }
            left -= 1;
        }
        Some((merged, bytes.split_off(HEADER_LEN)))
    }

    fn send(&mut self, header: [u8; HEADER_LEN], frame: &[u8]) {
        self.tx.write(TX_AT, &header);
        self.tx.write(TX_AT + 64, frame);
        let piece = |address, len: usize| Piece {
            address,
            len: len as u32,
            writable: false,
        };
        self.tx
            .offer(&[piece(TX_AT, HEADER_LEN), piece(TX_AT + 64, frame.len())]);
        self.turn(|device, memory, queues| device.queue_event(TX, memory, queues))
            .unwrap();
        assert_eq!(self.tx.used(), Some(0));
    }
}

fn frame(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed))
        .collect()
}

proptest! {
    /// Frames of any size arrive whole and in order, spread over as many buffers as they need.
    #[test]
    fn frames_come_through(lens in prop::collection::vec(1usize..65_550, 1..12)) {
        let memory = memory();
        let mut guest = Guest::new(&memory, FEATURES);
        guest.offer(20);
        for (number, len) in lens.into_iter().enumerate() {
            let sent = frame(len, number as u8);
            let mut packet = vec![0; HEADER_LEN];
            packet.extend(&sent);
            guest.wire.write_all(&packet).unwrap();
            guest.poll();
            let (buffers, received) = guest.receive().unwrap();
            prop_assert_eq!(usize::from(buffers), (HEADER_LEN + len).div_ceil(RX_LEN as usize));
            prop_assert!(received == sent);
            guest.offer(u64::from(buffers));
        }
    }

    /// What the guest sends arrives as it is, without what only the device may say.
    #[test]
    fn the_guests_frames_come_through(len in 1usize..20_000, header: [u8; HEADER_LEN]) {
        let memory = memory();
        let mut guest = Guest::new(&memory, FEATURES);
        let sent = frame(len, 3);
        guest.send(header, &sent);
        let mut received = vec![0; 70_000];
        let n = guest.wire.read(&mut received).unwrap();
        prop_assert_eq!(&received[HEADER_LEN..n], &sent[..]);
        prop_assert_eq!(received[0], header[0] & 1);
        prop_assert_eq!(&received[1..10], &header[1..10]);
        prop_assert_eq!(&received[10..12], &[0, 0]);
    }

    /// The guest sees a VLAN's frames with its tag, the network without; what the header says of
    /// places in the frame follows.
    #[test]
    fn vlans_have_cables_of_their_own(vlan in 1u16..4095, priority in 0u16..8, len in 2usize..9000) {
        let memory = memory();
        let mut guest = Guest::new(&memory, FEATURES);
        let mut wire = guest.plug(vlan);
        guest.offer(20);
        let mut plain = frame(ADDRESSES + len, 5);
        plain[ADDRESSES] = 8;
        let tci = (priority << 13 | vlan).to_be_bytes();
        let mut tagged = plain.clone();
        tagged.splice(ADDRESSES..ADDRESSES, [0x81, 0, tci[0], tci[1]]);

        // A large segment whose sum is still to be made.
        let without = [1, 1, 54, 0, 200, 5, 34, 0, 16, 0, 0, 0];
        let with = [1, 1, 58, 0, 200, 5, 38, 0, 16, 0, 0, 0];
        guest.send(with, &tagged);
        let mut received = vec![0; 70_000];
        let n = wire.read(&mut received).unwrap();
        prop_assert_eq!(&received[..HEADER_LEN], &without);
        prop_assert_eq!(&received[HEADER_LEN..n], &plain[..]);
        prop_assert!(guest.wire.read(&mut received).is_err(), "on the other cable");

        wire.write_all(&[&without[..], &plain].concat()).unwrap();
        guest.poll_vlan(vlan);
        let at = BUFFERS + guest.taken % 32 * u64::from(RX_LEN);
        let header = guest.rx.read(at, HEADER_LEN);
        let (_, received) = guest.receive().unwrap();
        prop_assert_eq!(&header[..10], &with[..10]);
        tagged[ADDRESSES + 2] = (vlan >> 8) as u8;
        prop_assert!(received == tagged);

        guest.wire.write_all(&[&without[..], &plain].concat()).unwrap();
        guest.poll();
        prop_assert!(guest.receive().unwrap().1 == plain, "an untagged frame has no tag");
    }

    #[test]
    fn hostile_rings_are_harmless(
        descriptors in hostile::descriptors(),
        heads in hostile::heads(),
        available in prop::option::of(any::<u16>()),
        queue in 0usize..2,
        features in prop_oneof![Just(FEATURES), Just(0)],
    ) {
        let memory = memory();
        let mut guest = Guest::new(&memory, features);
        for len in [0, 1, 60, 9000] {
            guest.wire.write_all(&frame(HEADER_LEN + len, 1)).unwrap();
        }
        let driver = if queue == RX { &mut guest.rx } else { &mut guest.tx };
        for (index, address, len, flags, next) in descriptors {
            driver.write_raw(index, address, len, flags, next);
        }
        for head in heads {
            driver.publish(head);
        }
        if let Some(index) = available {
            driver.set_available(index);
        }
        let _ = guest.turn(|device, memory, queues| device.queue_event(queue, memory, queues));
    }
}

#[test]
fn frames_wait_for_room() {
    let memory = memory();
    let mut guest = Guest::new(&memory, FEATURES);
    guest.offer(3);
    guest.wire.write_all(&frame(HEADER_LEN + 100, 1)).unwrap();
    guest.poll();
    // Three buffers are too few for the largest frame, and nothing is lost or half read.
    assert_eq!(guest.receive(), None);
    guest.offer(17);
    guest
        .turn(|device, memory, queues| device.queue_event(RX, memory, queues))
        .unwrap();
    assert_eq!(guest.receive().unwrap().1.len(), 100);
    assert_eq!(guest.receive(), None);
}

#[test]
fn a_guest_without_features_gets_one_buffer_per_frame() {
    let memory = memory();
    let mut guest = Guest::new(&memory, 0);
    guest.offer(2);
    for len in [60, 1500] {
        guest.wire.write_all(&frame(HEADER_LEN + len, 1)).unwrap();
    }
    guest.poll();
    assert_eq!(guest.receive().unwrap().0, 1);
    assert_eq!(guest.receive().unwrap().1.len(), 1500);
}

#[test]
fn a_cable_can_be_changed() {
    let memory = memory();
    let mut guest = Guest::new(&memory, FEATURES);
    guest.offer(20);
    let (wire, tap) = cable();
    guest.wire = wire;
    // Waits there before the device knows of it.
    guest.wire.write_all(&frame(HEADER_LEN + 5, 1)).unwrap();
    guest
        .turn(|device, memory, queues| {
            device.attach(0, Some(tap.try_clone()?), Some(memory), queues)
        })
        .unwrap();
    assert_eq!(guest.receive().unwrap().1.len(), 5);
}

#[test]
fn what_belongs_to_no_cable_is_lost() {
    let memory = memory();
    let mut guest = Guest::new(&memory, FEATURES);
    let mut wire = guest.plug(7);
    let tagged = |vlan: u8| [&[2; ADDRESSES][..], &[0x81, 0, 0, vlan, 8, 0, 1, 2]].concat();
    let mut received = vec![0; 100];
    guest.send([0; HEADER_LEN], &tagged(8));
    assert!(wire.read(&mut received).is_err());
    guest.send([0; HEADER_LEN], &tagged(7));
    assert_eq!(
        wire.read(&mut received).unwrap(),
        HEADER_LEN + ADDRESSES + 4
    );
    guest
        .turn(|device, memory, queues| device.attach(7, None, Some(memory), queues))
        .unwrap();
    guest.send([0; HEADER_LEN], &tagged(7));
    assert_eq!(wire.read(&mut received).unwrap(), 0, "the cable is closed");
    guest.offer(20);
    guest.poll_vlan(7);
    assert_eq!(guest.receive(), None);
    assert!(
        guest.wire.read(&mut received).is_err(),
        "on the other cable"
    );
}

#[test]
fn the_address_is_the_configuration() {
    let poller = Poller::new().unwrap();
    let device = Net::new([2, 3, 4, 5, 6, 7], poller.for_owner(1));
    let mut config = [9; 8];
    device.read_config(0, &mut config);
    assert_eq!(config, [2, 3, 4, 5, 6, 7, 0, 0]);
}

/// A frame passes where a budget is not overdrawn, and whatever comes after it waits.
#[test]
fn what_is_beyond_the_limits_waits() {
    let memory = memory();
    let mut guest = Guest::new(&memory, FEATURES);
    let limits = RateLimits {
        received: Some(100),
        sent: Some(100),
    };
    let spare = Net::new([2, 0, 0, 0, 0, 2], Poller::new().unwrap());
    let device = std::mem::replace(&mut guest.device, spare);
    guest.device = device.with_limits(limits).unwrap();
    let mut received = vec![0; 2000];

    guest.send([0; HEADER_LEN], &frame(1000, 1));
    assert_eq!(guest.wire.read(&mut received).unwrap(), HEADER_LEN + 1000);
    guest.tx.offer(&[Piece {
        address: TX_AT,
        len: (HEADER_LEN + 100) as u32,
        writable: false,
    }]);
    for token in [None, Some(SEND_AGAIN)] {
        // The timer's word alone is not believed.
        let turned = guest.turn(|device, memory, queues| match token {
            None => device.queue_event(TX, memory, queues),
            Some(token) => device.fd_event(token, 0, memory, queues),
        });
        turned.unwrap();
        assert_eq!(guest.tx.used(), None);
        let nothing = guest.wire.read(&mut received).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }

    guest.offer(20);
    for seed in [2, 3] {
        let mut packet = vec![0; HEADER_LEN];
        packet.extend(frame(1000, seed));
        guest.wire.write_all(&packet).unwrap();
    }
    guest.poll();
    assert_eq!(guest.receive().unwrap().1, frame(1000, 2));
    guest
        .turn(|device, memory, queues| device.fd_event(RECEIVE_AGAIN, 0, memory, queues))
        .unwrap();
    assert!(guest.receive().is_none());
}
