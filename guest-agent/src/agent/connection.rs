//! One connection of the host.
//!
//! Purpose: read the one request, and hold what could not be sent yet; everything bounded.

use std::os::fd::OwnedFd;

use guest_agent::protocol::{
    Envelope, FrameError, FrameKind, HEADER_LEN, Response, decode_header, encode_header,
};
use nix::errno::Errno;
use nix::unistd::{read, write};

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its request has not arrived whole.
    Request,
    /// Its request is being worked on.
    Waiting,
    /// It carries the streams of this process.
    Streaming(u64),
    /// It is closed when everything is sent.
    Draining,
}

/// Why a connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The peer closed, or the socket failed.
    #[error("connection closed")]
    Closed,
    /// What came is not of the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The first frame is no request.
    #[error("first frame is no request")]
    NoRequest,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    fd: OwnedFd,
    /// Where it stands.
    pub state: State,
    /// Whether reading may succeed.
    pub readable: bool,
    /// Whether writing may succeed.
    pub writable: bool,
    /// Whether the peer has stopped sending; what it sent may still be unread.
    pub ended: bool,
    /// Received bytes that could not be used yet.
    pub inbox: Vec<u8>,
    /// What is left of the payload of the frame that is being received.
    pub payload_left: usize,
    outbox: Vec<u8>,
    sent: usize,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            state: State::Request,
            readable: false,
            writable: true,
            ended: false,
            inbox: Vec::new(),
            payload_left: 0,
            outbox: Vec::new(),
            sent: 0,
        }
    }

    /// Reads on until the request is whole. What follows it stays in the inbox.
    pub fn read_request(&mut self, scratch: &mut [u8]) -> Result<Option<RequestFrame>, Broken> {
        loop {
            if let Some(header) = self.inbox.first_chunk::<HEADER_LEN>() {
                let (kind, len) = decode_header(*header)?;
                if kind != FrameKind::Request {
                    return Err(Broken::NoRequest);
                }
                if let Some(payload) = self.inbox.get(HEADER_LEN..HEADER_LEN + len) {
                    let frame = RequestFrame::parse(payload);
                    self.inbox.drain(..HEADER_LEN + len);
                    return Ok(Some(frame));
                }
            }
            if !self.readable {
                return Ok(None);
            }
            match self.receive(scratch) {
                Ok(0) => return Err(Broken::Closed),
                Ok(len) => self
                    .inbox
                    .extend_from_slice(scratch.get(..len).unwrap_or_default()),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(_) => return Err(Broken::Closed),
            }
        }
    }

    /// Reads into `space` and keeps track of readiness; 0 is the end.
    pub fn receive(&mut self, space: &mut [u8]) -> nix::Result<usize> {
        loop {
            match read(&self.fd, space) {
                Err(Errno::EINTR) => {}
                Ok(len) => {
                    // A short read has emptied the socket, and the next bytes are an event;
                    // but the peer's end was one already.
                    if len < space.len() && len > 0 && !self.ended {
                        self.readable = false;
                    }
                    return Ok(len);
                }
                Err(errno) => {
                    if errno == Errno::EAGAIN {
                        self.readable = false;
                    }
                    return Err(errno);
                }
            }
        }
    }

    /// Sends bytes that start and end at frame borders; what the socket does not take is
    /// kept. To be called only when everything before is flushed, or for small frames.
    pub fn send(&mut self, bytes: &[u8]) -> nix::Result<()> {
        let mut rest = bytes;
        if self.is_flushed() && self.writable {
            rest = rest.get(self.write(bytes)?..).unwrap_or_default();
        }
        self.outbox.extend_from_slice(rest);
        Ok(())
    }

    /// Sends one small frame.
    pub fn send_frame(&mut self, kind: FrameKind, payload: &[u8]) -> nix::Result<()> {
        let mut frame = encode_header(kind, payload.len()).to_vec();
        frame.extend_from_slice(payload);
        self.send(&frame)
    }

    /// Sends the answer to the request.
    pub fn respond(&mut self, response: &Response) {
        // A response is made of strings and numbers, which always have a JSON form; and
        // a broken socket is noticed by whoever writes or reads next.
        let payload = serde_json::to_vec(response).unwrap_or_default();
        let _ = self.send_frame(FrameKind::Response, &payload);
    }

    /// Sends on what was kept.
    pub fn flush(&mut self) -> nix::Result<()> {
        if self.is_flushed() || !self.writable {
            return Ok(());
        }
        let outbox = std::mem::take(&mut self.outbox);
        let written = self.write(outbox.get(self.sent..).unwrap_or_default());
        self.outbox = outbox;
        self.sent += written?;
        if self.sent == self.outbox.len() {
            self.sent = 0;
            self.outbox.clear();
            // A large one was an exception; 200 idle connections should hold nothing.
            self.outbox.shrink_to(4096);
        }
        Ok(())
    }

    /// Whether nothing is kept.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    fn write(&mut self, bytes: &[u8]) -> nix::Result<usize> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|r| !r.is_empty()) {
            match write(&self.fd, rest) {
                Ok(len) => done += len,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.writable = false;
                    break;
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }
}

/// A request frame's content.
#[derive(Debug)]
pub enum RequestFrame {
    /// A request of this or another version.
    Envelope(Box<Envelope>),
    /// A request of another version that this one cannot even read.
    OtherVersion(u32),
    /// Something else; why.
    Unreadable(String),
}

impl RequestFrame {
    fn parse(payload: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct VersionOnly {
            version: u32,
        }
        match serde_json::from_slice::<Envelope>(payload) {
            Ok(envelope) => Self::Envelope(Box::new(envelope)),
            Err(error) => match serde_json::from_slice::<VersionOnly>(payload) {
                Ok(found) if found.version != guest_agent::protocol::VERSION => {
                    Self::OtherVersion(found.version)
                }
                _ => Self::Unreadable(error.to_string()),
            },
        }
    }
}
