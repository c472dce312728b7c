//! The vsock device: streams between the host and ports of the guest.
//!
//! The host opens connections, each over a socket that its creator passes in. The guest
//! opens one kind only, to the port that says that its agent is ready; everything else is
//! reset.

mod connection;
mod packet;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::{
    Buffers, DeviceError, Memory, RING_FEATURES, VirtQueue, VirtioDevice, copy_config, kind,
};
use crate::poll::Poller;
use connection::{Connection, MAX_PAYLOAD, Next, Violation};
use packet::{HEADER_LEN, HOST_CID, Header, TYPE_STREAM, op};

/// The guest's address.
pub(crate) const GUEST_CID: u64 = 3;

/// The most connections at once.
const MAX_CONNECTIONS: usize = 4096;

/// The most resets that wait for the guest to make room.
const MAX_RESETS: usize = 1024;

/// Host ports begin here.
const FIRST_PORT: u32 = 1 << 16;

/// Packets that one connection may send before the next has its turn.
const TURN: usize = 16;

const RX: usize = 0;
const TX: usize = 1;

/// A virtio socket device.
pub(crate) struct Vsock {
    poller: Poller,
    ready_port: u32,
    on_ready: Option<Box<dyn FnOnce() + Send>>,
    /// By host port.
    connections: HashMap<u32, Connection>,
    next_port: u32,
    resets: VecDeque<Header>,
    /// Connections with something to send, each once.
    runnable: VecDeque<u32>,
}

impl fmt::Debug for Vsock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vsock")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Vsock {
    /// A device that calls `on_ready` when the guest first connects to `ready_port`.
    pub(crate) fn new(poller: Poller, ready_port: u32, on_ready: Box<dyn FnOnce() + Send>) -> Self {
        Self {
            poller,
            ready_port,
            on_ready: Some(on_ready),
            connections: HashMap::new(),
            next_port: FIRST_PORT,
            resets: VecDeque::new(),
            runnable: VecDeque::new(),
        }
    }

    fn free_port(&mut self) -> Option<u32> {
        if self.connections.len() >= MAX_CONNECTIONS {
            return None;
        }
        loop {
            let port = self.next_port;
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.connections.contains_key(&port) {
                return Some(port);
            }
        }
    }

    fn schedule(&mut self, port: u32) {
        if let Some(connection) = self.connections.get_mut(&port)
            && !connection.queued
            && connection.has_next()
        {
            connection.queued = true;
            self.runnable.push_back(port);
        }
    }

    fn reset(&mut self, guest_port: u32, host_port: u32) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(Header {
                src_cid: HOST_CID,
                dst_cid: GUEST_CID,
                src_port: host_port,
                dst_port: guest_port,
                kind: TYPE_STREAM,
                op: op::RST,
                ..Header::default()
            });
        }
    }

    /// A packet from the guest.
    fn receive(&mut self, header: &Header, data: &mut Buffers<'_>) -> Result<(), DeviceError> {
        if header.dst_cid != HOST_CID || header.src_cid != GUEST_CID || header.kind != TYPE_STREAM {
            if header.op != op::RST {
                self.reset(header.src_port, header.dst_port);
            }
            return Ok(());
        }
        let port = header.dst_port;
        if header.op == op::REQUEST {
            self.guest_request(header);
            return Ok(());
        }
        let found = self.connections.get_mut(&port);
        let Some(connection) = found.filter(|connection| connection.guest_port == header.src_port)
        else {
            if header.op != op::RST {
                self.reset(header.src_port, port);
            }
            return Ok(());
        };
        connection.note_credit(header);
        let buffered = connection.wants_writable();
        let mut over = false;
        let verdict = match header.op {
            op::RESPONSE => connection.accepted(),
            op::RW => connection.data(data),
            op::CREDIT_UPDATE => Ok(()),
            op::CREDIT_REQUEST => {
                connection.credit_request();
                Ok(())
            }
            op::SHUTDOWN => {
                over = connection.guest_shutdown(header.flags);
                Ok(())
            }
            op::RST => {
                // What the guest sent before still reaches the host.
                connection.abandon();
                if connection.finished() {
                    self.connections.remove(&port);
                }
                return Ok(());
            }
            _ => Err(Violation),
        };
        if verdict.is_err() {
            self.connections.remove(&port);
            self.reset(header.src_port, port);
            return Ok(());
        }
        let finished = connection.finished();
        if connection.wants_writable() != buffered {
            self.watch(port)?;
        }
        if over {
            self.reset(header.src_port, port);
            if finished {
                self.connections.remove(&port);
            }
            return Ok(());
        }
        self.schedule(port);
        Ok(())
    }

    /// Set what is waited for on a connection's host socket.
    fn watch(&self, port: u32) -> Result<(), DeviceError> {
        if let Some(connection) = self.connections.get(&port)
            && let Some(stream) = connection.stream()
        {
            self.poller
                .rearm_stream(stream.as_fd(), port, connection.wants_writable())?;
        }
        Ok(())
    }

    /// The guest opens a connection.
    fn guest_request(&mut self, header: &Header) {
        let port = header.dst_port;
        // The ready port is below every port that the host uses for its own connections, but
        // only one guest socket can be connected to it at a time.
        if port != self.ready_port
            || self.connections.contains_key(&port)
            || self.connections.len() >= MAX_CONNECTIONS
        {
            self.reset(header.src_port, port);
            return;
        }
        let mut connection = Connection::sink(header.src_port);
        connection.note_credit(header);
        self.connections.insert(port, connection);
        self.schedule(port);
        if let Some(on_ready) = self.on_ready.take() {
            on_ready();
        }
    }

    fn serve_tx(&mut self, memory: &Memory, queue: &mut VirtQueue) -> Result<(), DeviceError> {
        loop {
            queue.pause_kicks(memory)?;
            while let Some(chain) = queue.pop(memory)? {
                let head = chain.head_index();
                let (mut data, _) = Buffers::of_chain(chain, memory)?;
                let mut bytes = [0; HEADER_LEN];
                if data.read(&mut bytes) == HEADER_LEN {
                    let header = Header::decode(&bytes);
                    // The header's length counts, not the buffers'.
                    let len = header.len as usize;
                    if len <= MAX_PAYLOAD
                        && let Some(mut payload) = data.split_front(len)
                    {
                        self.receive(&header, &mut payload)?;
                    } else {
                        self.connections.remove(&header.dst_port);
                        self.reset(header.src_port, header.dst_port);
                    }
                }
                queue.push(memory, head, 0)?;
            }
            queue.notify(memory)?;
            if !queue.resume_kicks(memory)? {
                return Ok(());
            }
        }
    }

    fn has_packets(&self) -> bool {
        !self.resets.is_empty() || !self.runnable.is_empty()
    }

    /// Give the guest as many packets as there are and it has room for.
    fn serve_rx(&mut self, memory: &Memory, queue: &mut VirtQueue) -> Result<(), DeviceError> {
        while self.has_packets() && queue.ready() {
            let Some(chain) = queue.pop(memory)? else {
                if queue.resume_kicks(memory)? {
                    continue;
                }
                break;
            };
            let head = chain.head_index();
            let (_, mut room) = Buffers::of_chain(chain, memory)?;
            let Some(mut front) = room.split_front(HEADER_LEN) else {
                return Err(DeviceError::Descriptor(
                    "a vsock buffer is too short".to_owned(),
                ));
            };
            match self.next_packet(&mut room) {
                Some(header) => {
                    front.write(&header.encode());
                    queue.push(memory, head, HEADER_LEN as u32 + header.len)?;
                }
                None => queue.undo_pop(),
            }
        }
        queue.notify(memory)
    }

    /// The next packet, its data in `payload`.
    fn next_packet(&mut self, payload: &mut Buffers<'_>) -> Option<Header> {
        if let Some(header) = self.resets.pop_front() {
            return Some(header);
        }
        while let Some(port) = self.runnable.front().copied() {
            if let Some(connection) = self.connections.get_mut(&port) {
                let next = connection.next(payload);
                if next != Next::Nothing {
                    let (op, flags, len) = match next {
                        Next::Control(op, flags) => (op, flags, 0),
                        Next::Data(len) => (op::RW, 0, len as u32),
                        Next::Nothing => (0, 0, 0),
                    };
                    let (buf_alloc, fwd_cnt) = connection.credit();
                    let dst_port = connection.guest_port;
                    self.end_turn(port);
                    return Some(Header {
                        src_cid: HOST_CID,
                        dst_cid: GUEST_CID,
                        src_port: port,
                        dst_port,
                        len,
                        kind: TYPE_STREAM,
                        op,
                        flags,
                        buf_alloc,
                        fwd_cnt,
                    });
                }
                connection.queued = false;
            }
            self.runnable.pop_front();
        }
        None
    }

    /// Let the connection at the front of the line stay there for some packets.
    fn end_turn(&mut self, port: u32) {
        let Some(connection) = self.connections.get_mut(&port) else {
            return;
        };
        if connection.has_next() {
            connection.turn += 1;
            if connection.turn >= TURN {
                connection.turn = 0;
                self.runnable.rotate_left(1);
            }
        } else {
            connection.queued = false;
            self.runnable.pop_front();
        }
    }
}

impl VirtioDevice for Vsock {
    fn kind(&self) -> u32 {
        kind::VSOCK
    }

    fn queues(&self) -> usize {
        3
    }

    fn features(&self) -> u64 {
        RING_FEATURES
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        copy_config(&GUEST_CID.to_le_bytes(), offset, data);
    }

    fn queue_event(
        &mut self,
        index: usize,
        memory: &Memory,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        if index == TX
            && let Some(queue) = queues.get_mut(TX)
        {
            self.serve_tx(memory, queue)?;
        }
        match queues.get_mut(RX) {
            Some(queue) => self.serve_rx(memory, queue),
            None => Ok(()),
        }
    }

    fn fd_event(
        &mut self,
        token: u32,
        readiness: u32,
        memory: &Memory,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        let readiness = crate::poll::Readiness(readiness);
        let Some(connection) = self.connections.get_mut(&token) else {
            return Ok(());
        };
        if readiness.readable() {
            connection.host_event(readiness.hung_up());
        }
        if connection.wants_writable() {
            connection.flush();
            let finished = connection.finished();
            if !connection.wants_writable() {
                self.watch(token)?;
            }
            if finished {
                self.connections.remove(&token);
            }
        }
        self.schedule(token);
        match queues.get_mut(RX) {
            Some(queue) => self.serve_rx(memory, queue),
            None => Ok(()),
        }
    }

    fn reset(&mut self) {
        // Their streams close: the guest's ends are gone.
        self.connections.clear();
        self.resets.clear();
        self.runnable.clear();
    }

    fn connect(
        &mut self,
        port: u32,
        stream: UnixStream,
        memory: Option<&Memory>,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        // Beyond the limit the stream closes, as if the guest had refused.
        let Some(host_port) = self.free_port() else {
            return Ok(());
        };
        self.poller.watch_stream(stream.as_fd(), host_port)?;
        self.connections
            .insert(host_port, Connection::request(stream, port));
        self.schedule(host_port);
        match (queues.get_mut(RX), memory) {
            (Some(queue), Some(memory)) => self.serve_rx(memory, queue),
            _ => Ok(()),
        }
    }
}
