//! One stream between a host socket and a guest socket.
//!
//! Both directions are bounded by credit: the guest may not send more than what fits into
//! the buffer here, and nothing is read from the host socket that the guest has no room for.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::packet::{Header, SHUTDOWN_BOTH, SHUTDOWN_RCV, SHUTDOWN_SEND, op};
use crate::devices::Buffers;

/// The room that the guest is told to have here.
pub(super) const BUF_ALLOC: u32 = 256 * 1024;

/// The most bytes in one packet.
pub(super) const MAX_PAYLOAD: usize = 64 * 1024;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The guest has been or will be asked.
    Requested,
    /// Data can flow.
    Open,
    /// The guest is done with it; what it sent is still on its way to the host socket.
    Lingering,
}

/// The guest broke the protocol: the connection is reset.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation;

/// What to send next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A packet without data: operation and flags.
    Control(u16, u32),
    /// Data of this length, which is in the buffers.
    Data(usize),
    /// Nothing for now.
    Nothing,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Connection {
    /// None: whatever the guest sends is dropped.
    stream: Option<UnixStream>,
    pub(super) guest_port: u32,
    state: State,
    /// Whether it stands in the device's list of connections with something to send.
    pub(super) queued: bool,
    /// The packets that it has sent since it came to the front of that list.
    pub(super) turn: usize,

    // Towards the guest.
    request: Option<u16>,
    readable: bool,
    hung_up: bool,
    host_ended: bool,
    shutdown_sent: u32,
    sent: u32,
    guest_alloc: u32,
    guest_forwarded: u32,

    // From the guest.
    buffer: VecDeque<u8>,
    discard: bool,
    received: u32,
    forwarded: u32,
    told: u32,
    credit_asked: bool,
    guest_shutdown: u32,
}

impl Connection {
    /// A connection that the host opens.
    pub(super) fn request(stream: UnixStream, guest_port: u32) -> Self {
        Self::new(Some(stream), guest_port, State::Requested, op::REQUEST)
    }

    /// A connection that the guest opened and whose data nobody wants.
    pub(super) fn sink(guest_port: u32) -> Self {
        Self::new(None, guest_port, State::Open, op::RESPONSE)
    }

    fn new(stream: Option<UnixStream>, guest_port: u32, state: State, first: u16) -> Self {
        Self {
            stream,
            guest_port,
            state,
            queued: false,
            turn: 0,
            request: Some(first),
            readable: false,
            hung_up: false,
            host_ended: false,
            shutdown_sent: 0,
            sent: 0,
            guest_alloc: 0,
            guest_forwarded: 0,
            buffer: VecDeque::new(),
            discard: false,
            received: 0,
            forwarded: 0,
            told: 0,
            credit_asked: false,
            guest_shutdown: 0,
        }
    }

    /// The host socket, to wait for it.
    pub(super) fn stream(&self) -> Option<&UnixStream> {
        self.stream.as_ref()
    }

    /// The credit that packets to the guest carry: room and bytes taken.
    pub(super) fn credit(&mut self) -> (u32, u32) {
        self.told = self.forwarded;
        self.credit_asked = false;
        (BUF_ALLOC, self.forwarded)
    }

    /// Whether data waits for the host socket to take it.
    pub(super) fn wants_writable(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether nothing is left to do.
    pub(super) fn finished(&self) -> bool {
        self.state == State::Lingering && self.buffer.is_empty()
    }

    /// The guest has forgotten it.
    pub(super) fn abandon(&mut self) {
        self.state = State::Lingering;
        self.guest_shutdown = SHUTDOWN_BOTH;
    }

    /// Every packet tells how much room the guest has.
    pub(super) fn note_credit(&mut self, header: &Header) {
        self.guest_alloc = header.buf_alloc;
        self.guest_forwarded = header.fwd_cnt;
    }

    /// The guest accepted.
    pub(super) fn accepted(&mut self) -> Result<(), Violation> {
        if self.state != State::Requested || self.request.is_some() {
            return Err(Violation);
        }
        self.state = State::Open;
        Ok(())
    }

    /// The guest asks how much room there is.
    pub(super) fn credit_request(&mut self) {
        self.credit_asked = true;
    }

    /// The guest sent data.
    pub(super) fn data(&mut self, data: &mut Buffers<'_>) -> Result<(), Violation> {
        let len = u32::try_from(data.len()).map_err(|_| Violation)?;
        let room = BUF_ALLOC - self.received.wrapping_sub(self.forwarded);
        if self.state != State::Open || self.guest_shutdown & SHUTDOWN_SEND != 0 || len > room {
            return Err(Violation);
        }
        self.received = self.received.wrapping_add(len);
        while data.len() > 0 && self.buffer.is_empty() && !self.discard {
            let Some(stream) = &self.stream else { break };
            match data.drain_to_socket(stream.as_fd()) {
                Ok(n) => self.forwarded = self.forwarded.wrapping_add(n as u32),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.host_receives_no_more(),
            }
        }
        if self.discard || self.stream.is_none() {
            self.forwarded = self.received;
            return Ok(());
        }
        let start = self.buffer.len();
        self.buffer.resize(start + data.len(), 0);
        let (a, b) = self.buffer.as_mut_slices();
        if let Some(rest) = a.get_mut(start..) {
            data.read(rest);
            data.read(b);
        } else if let Some(rest) = b.get_mut(start - a.len()..) {
            data.read(rest);
        }
        Ok(())
    }

    /// The host socket may have room again.
    pub(super) fn flush(&mut self) {
        while !self.buffer.is_empty() {
            let Some(stream) = &self.stream else { break };
            let (front, _) = self.buffer.as_slices();
            let flags =
                nix::sys::socket::MsgFlags::MSG_DONTWAIT | nix::sys::socket::MsgFlags::MSG_NOSIGNAL;
            match nix::sys::socket::send(std::os::fd::AsRawFd::as_raw_fd(stream), front, flags) {
                Ok(n) => {
                    self.buffer.drain(..n);
                    self.forwarded = self.forwarded.wrapping_add(n as u32);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return,
                Err(_) => self.host_receives_no_more(),
            }
        }
        // A burst's memory is given back; a stream that is slow all the time keeps it.
        if self.buffer.capacity() > 64 * 1024 {
            self.buffer = VecDeque::new();
        }
        if self.guest_shutdown & SHUTDOWN_SEND != 0 {
            self.end_host_input();
        }
    }

    fn host_receives_no_more(&mut self) {
        self.discard = true;
        self.forwarded = self.received;
        self.buffer = VecDeque::new();
    }

    fn end_host_input(&self) {
        if let Some(stream) = &self.stream {
            // It fails only when the other side is gone, which is as good.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// The guest will not send or not receive any more. True when the connection is over.
    pub(super) fn guest_shutdown(&mut self, flags: u32) -> bool {
        self.guest_shutdown |= flags & SHUTDOWN_BOTH;
        if self.guest_shutdown & SHUTDOWN_RCV != 0 {
            self.host_ended = true;
            self.readable = false;
            if let Some(stream) = &self.stream {
                let _ = stream.shutdown(Shutdown::Read);
            }
        }
        if self.guest_shutdown & SHUTDOWN_SEND != 0 && self.buffer.is_empty() {
            self.end_host_input();
        }
        if self.guest_shutdown == SHUTDOWN_BOTH {
            self.state = State::Lingering;
            return true;
        }
        false
    }

    /// The host socket has data, an end, or both.
    pub(super) fn host_event(&mut self, hung_up: bool) {
        self.readable |= !self.host_ended;
        self.hung_up |= hung_up;
    }

    fn room_at_guest(&self) -> usize {
        let in_flight = self.sent.wrapping_sub(self.guest_forwarded);
        self.guest_alloc.saturating_sub(in_flight) as usize
    }

    /// What the guest shall be told of the host's end.
    fn shutdown_due(&self) -> u32 {
        let mut flags = 0;
        if self.host_ended && self.guest_shutdown & SHUTDOWN_RCV == 0 {
            flags |= SHUTDOWN_SEND;
        }
        if self.discard || self.hung_up && self.host_ended {
            flags |= SHUTDOWN_RCV;
        }
        flags
    }

    /// Whether [`Connection::next`] would have something.
    pub(super) fn has_next(&self) -> bool {
        if self.request.is_some() {
            return true;
        }
        self.state == State::Open
            && (self.credit_asked
                || self.forwarded.wrapping_sub(self.told) >= BUF_ALLOC / 2
                || self.readable && self.room_at_guest() > 0
                || self.shutdown_due() & !self.shutdown_sent != 0)
    }

    /// The next packet for the guest; data goes straight into `payload`.
    pub(super) fn next(&mut self, payload: &mut Buffers<'_>) -> Next {
        if let Some(first) = self.request.take() {
            return Next::Control(first, 0);
        }
        if self.state != State::Open {
            return Next::Nothing;
        }
        let limit = self.room_at_guest().min(MAX_PAYLOAD).min(payload.len());
        while self.readable && limit > 0 {
            let Some(stream) = &self.stream else { break };
            match payload.fill_from_socket(stream.as_fd(), limit) {
                Ok(0) => {
                    self.readable = false;
                    self.host_ended = true;
                }
                Ok(n) => {
                    self.sent = self.sent.wrapping_add(n as u32);
                    return Next::Data(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(_) => {
                    self.readable = false;
                    self.host_ended = true;
                    self.host_receives_no_more();
                }
            }
        }
        let due = self.shutdown_due();
        if due & !self.shutdown_sent != 0 {
            self.shutdown_sent |= due;
            return Next::Control(op::SHUTDOWN, self.shutdown_sent);
        }
        if self.credit_asked || self.forwarded.wrapping_sub(self.told) >= BUF_ALLOC / 2 {
            return Next::Control(op::CREDIT_UPDATE, 0);
        }
        Next::Nothing
    }
}
