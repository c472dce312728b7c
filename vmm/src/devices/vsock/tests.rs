use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::connection::BUF_ALLOC;
use super::packet::{SHUTDOWN_BOTH, SHUTDOWN_SEND};
use super::*;
use crate::devices::testing::{BUFFERS, Driver, Piece, hostile, memory, turns};

const READY_PORT: u32 = 1025;
const GUEST_PORT: u32 = 7;

/// The room that the test guest says it has.
const GUEST_ALLOC: u32 = 20_000;

/// The length of the test guest's receive buffers.
const RX_LEN: u32 = 4096;

/// A guest with a correct driver, one packet at a time.
struct Guest<'m> {
    memory: &'m Memory,
    device: Vsock,
    poller: Poller,
    rx: Driver<'m>,
    tx: Driver<'m>,
    queues: [VirtQueue; 2],
    readies: Arc<AtomicUsize>,
    next_buffer: u64,
    oldest_buffer: u64,
    /// Bytes of data that the guest has taken.
    forwarded: u32,
}

impl<'m> Guest<'m> {
    fn new(memory: &'m Memory) -> Self {
        let poller = Poller::new().unwrap();
        let readies = Arc::new(AtomicUsize::new(0));
        let count = readies.clone();
        let on_ready = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let device = Vsock::new(poller.for_owner(1), READY_PORT, on_ready);
        let (rx, rx_queue) = Driver::new(memory, 0);
        let (tx, tx_queue) = Driver::new(memory, 1);
        let queues = [rx_queue, tx_queue];
        let mut guest = Self {
            memory,
            device,
            poller,
            rx,
            tx,
            queues,
            readies,
            next_buffer: 0,
            oldest_buffer: 0,
            forwarded: 0,
        };
        for _ in 0..16 {
            guest.add_buffer();
        }
        guest
    }

    fn buffer(number: u64) -> u64 {
        BUFFERS + number % 32 * u64::from(RX_LEN)
    }

    fn add_buffer(&mut self) {
        let address = Self::buffer(self.next_buffer);
        self.rx.offer(&[Piece {
            address,
            len: RX_LEN,
            writable: true,
        }]);
        self.next_buffer += 1;
    }

    fn turn(
        &mut self,
        mut work: impl FnMut(&mut Vsock, &Memory, &mut [VirtQueue]) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let Self {
            device,
            memory,
            queues,
            ..
        } = self;
        turns(queues, |queues| work(device, memory, queues))
    }

    fn connect(&mut self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut theirs = Some(theirs);
        self.turn(|device, memory, queues| match theirs.take() {
            Some(stream) => device.connect(GUEST_PORT, stream, Some(memory), queues),
            None => device.queue_event(RX, memory, queues),
        })
        .unwrap();
        ours
    }

    /// Let the device see what happened on the host's sockets.
    fn poll(&mut self) {
        // An event of our own, so that the wait ends.
        let (end, other) = UnixStream::pair().unwrap();
        drop(other);
        self.poller.watch(end.as_fd(), 0).unwrap();
        let mut ready = Vec::new();
        self.poller.wait(&mut ready).unwrap();
        self.poller.unwatch(end.as_fd()).unwrap();
        for event in ready.iter().filter(|event| event.owner == 1) {
            self.turn(|device, memory, queues| {
                device.fd_event(event.token, event.readiness, memory, queues)
            })
            .unwrap();
        }
    }

    fn send(&mut self, header: Header, data: &[u8]) {
        let at = BUFFERS + (1 << 20);
        let header = Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            len: data.len() as u32,
            kind: TYPE_STREAM,
            buf_alloc: GUEST_ALLOC,
            fwd_cnt: self.forwarded,
            ..header
        };
        self.tx.write(at, &header.encode());
        self.tx.write(at + 64, data);
        let mut pieces = vec![Piece {
            address: at,
            len: HEADER_LEN as u32,
            writable: false,
        }];
        // Data in two pieces, as large sockets buffers come.
        let half = data.len() / 2;
        for (from, len) in [(0, half), (half, data.len() - half)] {
            if len > 0 {
                let address = at + 64 + from as u64;
                pieces.push(Piece {
                    address,
                    len: len as u32,
                    writable: false,
                });
            }
        }
        self.tx.offer(&pieces);
        self.turn(|device, memory, queues| device.queue_event(TX, memory, queues))
            .unwrap();
        assert_eq!(self.tx.used(), Some(0));
    }

    fn reply(&mut self, to: &Header, op: u16, flags: u32, data: &[u8]) {
        let header = Header {
            src_port: to.dst_port,
            dst_port: to.src_port,
            op,
            flags,
            ..Header::default()
        };
        self.send(header, data);
    }

    /// The next packet from the device.
    fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let used = self.rx.used()? as usize;
        let at = Self::buffer(self.oldest_buffer);
        self.oldest_buffer += 1;
        let bytes = self.rx.read(at, used);
        let header = Header::decode(bytes[..HEADER_LEN].try_into().unwrap());
        let data = bytes[HEADER_LEN..].to_vec();
        assert_eq!(data.len(), header.len as usize);
        self.forwarded = self.forwarded.wrapping_add(header.len);
        self.add_buffer();
        self.turn(|device, memory, queues| device.queue_event(RX, memory, queues))
            .unwrap();
        Some((header, data))
    }

    /// Open a connection from the host and accept it.
    fn open(&mut self) -> (UnixStream, Header) {
        let stream = self.connect();
        let (request, _) = self.receive().unwrap();
        assert_eq!((request.op, request.dst_port), (op::REQUEST, GUEST_PORT));
        assert_eq!((request.src_cid, request.dst_cid), (HOST_CID, GUEST_CID));
        self.reply(&request, op::RESPONSE, 0, &[]);
        (stream, request)
    }
}

fn everything(stream: &mut UnixStream) -> Vec<u8> {
    let mut data = Vec::new();
    let _ = stream.read_to_end(&mut data);
    data
}

proptest! {
    /// Data arrives whole and in order both ways, whatever the sizes of its pieces, and
    /// neither side is sent more than what it has room for.
    #[test]
    fn streams_carry_bytes(
        steps in prop::collection::vec((any::<bool>(), 1usize..30_000), 1..25),
    ) {
        let memory = memory();
        let mut guest = Guest::new(&memory);
        let (mut stream, request) = guest.open();
        let (mut to_guest, mut at_guest) = (Vec::<u8>::new(), Vec::<u8>::new());
        let (mut to_host, mut at_host) = (Vec::<u8>::new(), Vec::<u8>::new());
        let mut sent_by_guest = 0u32;
        let (mut host_alloc, mut host_forwarded) = (request.buf_alloc, request.fwd_cnt);
        for (i, (from_host, len)) in steps.into_iter().enumerate() {
            let data: Vec<u8> = (0..len).map(|j| (i * 31 + j) as u8).collect();
            if from_host {
                let n = stream.write(&data).unwrap_or(0);
                to_guest.extend(&data[..n]);
                guest.poll();
            } else {
                let room = host_alloc - sent_by_guest.wrapping_sub(host_forwarded);
                let len = len.min(room as usize);
                guest.reply(&request, op::RW, 0, &data[..len]);
                sent_by_guest = sent_by_guest.wrapping_add(len as u32);
                to_host.extend(&data[..len]);
            }
            at_host.extend(everything(&mut stream));
            guest.poll();
            let mut taken = 0;
            while let Some((header, data)) = guest.receive() {
                taken += data.len();
                prop_assert!(taken <= GUEST_ALLOC as usize);
                at_guest.extend(data);
                (host_alloc, host_forwarded) = (header.buf_alloc, header.fwd_cnt);
            }
            guest.reply(&request, op::CREDIT_UPDATE, 0, &[]);
        }
        loop {
            guest.reply(&request, op::CREDIT_UPDATE, 0, &[]);
            let before = at_guest.len();
            while let Some((_, data)) = guest.receive() {
                at_guest.extend(data);
            }
            if at_guest.len() == before {
                break;
            }
        }
        guest.poll();
        at_host.extend(everything(&mut stream));
        prop_assert!(at_guest == to_guest);
        prop_assert!(at_host == to_host);
    }

    /// Whatever packets and rings the guest makes up, nothing panics or grows without end.
    #[test]
    fn hostile_packets_are_harmless(
        packets in prop::collection::vec(
            (0u16..10, any::<u32>(), prop_oneof![Just(FIRST_PORT), Just(READY_PORT), any::<u32>()],
             prop_oneof![Just(GUEST_PORT), any::<u32>()], 0usize..3000, any::<u32>(), any::<u32>()),
            1..60,
        ),
    ) {
        let memory = memory();
        let mut guest = Guest::new(&memory);
        let stream = guest.connect();
        for (op, flags, dst_port, src_port, len, buf_alloc, fwd_cnt) in packets {
            let header = Header { op, flags, dst_port, src_port, buf_alloc, fwd_cnt, ..Header::default() };
            guest.send(header, &vec![1; len]);
            if len % 2 == 0 {
                while guest.receive().is_some() {}
            }
        }
        guest.poll();
        prop_assert!(guest.device.connections.len() <= 2);
        prop_assert!(guest.device.resets.len() <= MAX_RESETS);
        prop_assert!(guest.readies.load(Ordering::Relaxed) <= 1);
        drop(stream);
    }

    #[test]
    fn hostile_rings_are_harmless(
        descriptors in hostile::descriptors(),
        heads in hostile::heads(),
        available in prop::option::of(any::<u16>()),
        queue in 0usize..2,
    ) {
        let memory = memory();
        let mut guest = Guest::new(&memory);
        let mut stream = guest.connect();
        stream.write_all(b"data for the guest").unwrap();
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
fn the_agent_is_heard_once() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let header = Header {
        op: op::REQUEST,
        src_port: 99,
        dst_port: READY_PORT,
        ..Header::default()
    };
    guest.send(header, &[]);
    let (response, _) = guest.receive().unwrap();
    assert_eq!((response.op, response.dst_port), (op::RESPONSE, 99));
    guest.reply(&response, op::SHUTDOWN, SHUTDOWN_BOTH, &[]);
    assert_eq!(guest.receive().unwrap().0.op, op::RST);
    // Again: accepted, not told.
    guest.send(header, &[]);
    assert_eq!(guest.readies.load(Ordering::Relaxed), 1);
}

#[test]
fn other_ports_of_the_host_are_closed() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    for port in [0, 22, 1024, 1026, FIRST_PORT] {
        let header = Header {
            op: op::REQUEST,
            src_port: 5,
            dst_port: port,
            ..Header::default()
        };
        guest.send(header, &[]);
        let (reset, _) = guest.receive().unwrap();
        assert_eq!(
            (reset.op, reset.src_port, reset.dst_port),
            (op::RST, port, 5)
        );
    }
    assert_eq!(guest.readies.load(Ordering::Relaxed), 0);
}

#[test]
fn more_than_the_credit_resets() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let (stream, request) = guest.open();
    // Nobody reads the stream: its own buffer fills first, then the device's.
    let mut sent = 0;
    loop {
        guest.reply(&request, op::RW, 0, &[1; 16_384]);
        sent += 16_384;
        match guest.receive() {
            Some((header, _)) if header.op == op::RST => break,
            _ => assert!(sent < 8 << 20, "never reset"),
        }
    }
    assert!(sent > BUF_ALLOC as usize);
    assert!(guest.device.connections.is_empty());
    drop(stream);
}

#[test]
fn the_hosts_end_reaches_the_guest_after_its_data() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let (mut stream, request) = guest.open();
    stream.write_all(b"last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    guest.poll();
    let (header, data) = guest.receive().unwrap();
    assert_eq!((header.op, data.as_slice()), (op::RW, &b"last words"[..]));
    let (header, _) = guest.receive().unwrap();
    assert_eq!((header.op, header.flags), (op::SHUTDOWN, SHUTDOWN_SEND));
    // The other half still works.
    guest.reply(&request, op::RW, 0, b"answer");
    assert_eq!(everything(&mut stream), b"answer");
    drop(stream);
    guest.poll();
    let (header, _) = guest.receive().unwrap();
    assert_eq!((header.op, header.flags), (op::SHUTDOWN, SHUTDOWN_BOTH));
    guest.reply(&request, op::RST, 0, &[]);
    assert!(guest.device.connections.is_empty());
}

#[test]
fn what_the_guest_sent_before_it_closed_arrives() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let (mut stream, request) = guest.open();
    let mut sent = 0;
    // Fill the host socket and some of the device's buffer.
    while !guest
        .device
        .connections
        .values()
        .any(Connection::wants_writable)
    {
        guest.reply(&request, op::RW, 0, &[7; 10_000]);
        while guest.receive().is_some() {}
        sent += 10_000;
    }
    guest.reply(&request, op::SHUTDOWN, SHUTDOWN_BOTH, &[]);
    assert_eq!(guest.receive().unwrap().0.op, op::RST);
    let mut got = 0;
    loop {
        let data = everything(&mut stream);
        if data.is_empty() && guest.device.connections.is_empty() {
            break;
        }
        got += data.len();
        guest.poll();
    }
    assert_eq!(got, sent);
}

#[test]
fn refused_streams_close() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let mut stream = guest.connect();
    let (request, _) = guest.receive().unwrap();
    guest.reply(&request, op::RST, 0, &[]);
    stream.set_nonblocking(false).unwrap();
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    assert!(guest.device.connections.is_empty());
}
