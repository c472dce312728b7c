//! The network interface: frames between the guest's queues and a TAP device of the host.
//!
//! The TAP device takes and gives the same header that virtio has before each frame, so
//! checksums and the cutting of large segments are left to whoever needs them last, and most
//! frames are as large as the kernels make them (64 KiB).
//!
//! A guest gets its interfaces when it starts. A network that it joins later comes over one that
//! it has, as a VLAN (IEEE 802.1Q): the device has a TAP device for each tag, takes the tag off
//! what the guest sends there and puts it on what it receives. The networks know nothing of it.

mod header;
mod tag;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use virtio_bindings::virtio_net as net;

use super::throttle::Throttle;
use super::{Buffers, DeviceError, Memory, RING_FEATURES, VirtQueue, VirtioDevice, copy_config};
use crate::RateLimits;
use crate::poll::Poller;
use header::{HEADER_LEN, Header};
use tag::{ADDRESSES, TAG_LEN, Tag};

/// The queue that the device fills.
const RX: usize = 0;
/// The queue that the guest fills.
const TX: usize = 1;

/// Tokens of the timers, beyond those of TAP devices.
const RECEIVE_AGAIN: u32 = 1 << 16;
const SEND_AGAIN: u32 = RECEIVE_AGAIN + 1;

/// The largest frame of an ordinary interface: 1500 bytes, with an address header and a tag.
const SMALL_FRAME: usize = 1518;

/// The largest frame where the other side may leave large segments whole.
const LARGE_FRAME: usize = 65_535 + 18;

/// The most chains that one frame is spread over: a queue's entries.
const MAX_CHAINS: usize = super::queue::MAX_QUEUE_SIZE as usize;

const fn bit(feature: u32) -> u64 {
    1 << feature
}

/// Frames that the guest may get larger than its interface's MTU.
const LARGE: u64 = bit(net::VIRTIO_NET_F_GUEST_TSO4) | bit(net::VIRTIO_NET_F_GUEST_TSO6);

/// What the interface offers.
const FEATURES: u64 = RING_FEATURES
    | LARGE
    | bit(net::VIRTIO_NET_F_CSUM)
    | bit(net::VIRTIO_NET_F_GUEST_CSUM)
    | bit(net::VIRTIO_NET_F_MAC)
    | bit(net::VIRTIO_NET_F_GUEST_ECN)
    | bit(net::VIRTIO_NET_F_HOST_TSO4)
    | bit(net::VIRTIO_NET_F_HOST_TSO6)
    | bit(net::VIRTIO_NET_F_HOST_ECN)
    | bit(net::VIRTIO_NET_F_MRG_RXBUF);

/// A virtio network interface.
#[derive(Debug)]
pub(crate) struct Net {
    mac: [u8; 6],
    poller: Poller,
    /// Without any, everything is dropped.
    cables: Vec<Cable>,
    features: u64,
    /// What the guest may receive.
    received: Option<Throttle>,
    /// What it may send.
    sent: Option<Throttle>,
}

/// A way out. Its tag is its token at the poller.
#[derive(Debug)]
struct Cable {
    tag: Tag,
    tap: File,
}

impl Net {
    /// An interface that is not connected yet. `poller` belongs to it alone.
    pub(crate) fn new(mac: [u8; 6], poller: Poller) -> Self {
        Self {
            mac,
            poller,
            cables: Vec::new(),
            features: 0,
            received: None,
            sent: None,
        }
    }

    /// The interface with limits.
    pub(crate) fn with_limits(mut self, limits: RateLimits) -> io::Result<Self> {
        let throttle = |limit: Option<u64>, token| {
            let limit = limit.map(|rate| Throttle::new(rate, &self.poller, token));
            limit.transpose()
        };
        self.received = throttle(limits.received, RECEIVE_AGAIN)?;
        self.sent = throttle(limits.sent, SEND_AGAIN)?;
        Ok(self)
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    fn cable(&self, tag: Tag) -> Option<&Cable> {
        self.cables.iter().find(|cable| cable.tag == tag)
    }

    /// There is no TAP device for this tag any more.
    fn unplug(&mut self, tag: Tag) {
        let (gone, kept) = std::mem::take(&mut self.cables)
            .into_iter()
            .partition(|cable| cable.tag == tag);
        self.cables = kept;
        let gone: Vec<Cable> = gone;
        for cable in gone {
            // Fails only when it is not watched, which is what is wanted.
            let _ = self.poller.unwatch(cable.tap.as_fd());
        }
    }

    /// Give the guest what waits at all TAP devices.
    fn receive_all(&mut self, memory: &Memory, queue: &mut VirtQueue) -> Result<(), DeviceError> {
        let tags: Vec<Tag> = self.cables.iter().map(|cable| cable.tag).collect();
        for tag in tags {
            self.receive(tag, memory, queue)?;
        }
        Ok(())
    }

    /// Give the guest what waits at a TAP device.
    fn receive(
        &mut self,
        tag: Tag,
        memory: &Memory,
        queue: &mut VirtQueue,
    ) -> Result<(), DeviceError> {
        if !queue.ready() || self.cable(tag).is_none() {
            return Ok(());
        }
        queue.pause_kicks(memory)?;
        loop {
            if !may_go_on(&mut self.received)? {
                // The timer goes on with what waits.
                break;
            }
            match self.receive_one(tag, memory, queue)? {
                Received::Frame => {}
                // The TAP device tells when there is more, the guest need not.
                Received::Nothing => break,
                // The guest tells when it has added some.
                Received::NoRoom => break,
            }
        }
        queue.notify(memory)
    }

    fn receive_one(
        &mut self,
        tag: Tag,
        memory: &Memory,
        queue: &mut VirtQueue,
    ) -> Result<Received, DeviceError> {
        let Some(cable) = self.cable(tag) else {
            return Ok(Received::Nothing);
        };
        let mergeable = self.has(bit(net::VIRTIO_NET_F_MRG_RXBUF));
        let wanted = HEADER_LEN
            + if self.has(LARGE) {
                LARGE_FRAME
            } else {
                SMALL_FRAME
            };
        // Chains until the largest frame fits: a frame's length is known when it is read.
        let mut chains = Vec::new();
        let mut room = Buffers::default();
        while room.len() < wanted && (chains.is_empty() || mergeable && chains.len() < MAX_CHAINS) {
            let Some(chain) = queue.pop(memory)? else {
                // Asked for while the chains are taken: of those that are put back it would
                // never notify again.
                if queue.resume_kicks(memory)? {
                    queue.pause_kicks(memory)?;
                    continue;
                }
                break;
            };
            let head = chain.head_index();
            let (_, writable) = Buffers::of_chain(chain, memory)?;
            chains.push((head, writable.len()));
            room.append(writable);
        }
        if room.len() < wanted && (mergeable || chains.is_empty()) {
            put_back(queue, chains.len());
            return Ok(Received::NoRoom);
        }
        let Some((mut place, mut gap, mut room)) = lay_out(room, tag) else {
            // A buffer too short for any frame: the guest gets it back empty.
            for (head, _) in chains {
                queue.push(memory, head, 0)?;
            }
            return Ok(Received::Frame);
        };
        let mut header = [0; HEADER_LEN];
        let read = loop {
            match room.read_frame(cable.tap.as_fd(), &mut header) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let len = match read {
            Ok(len) => len,
            Err(error) => {
                put_back(queue, chains.len());
                if error.kind() != io::ErrorKind::WouldBlock {
                    // The network that the TAP device belonged to is gone.
                    self.unplug(tag);
                }
                return Ok(Received::Nothing);
            }
        };
        let tag_len = gap.len();
        gap.write(&tag.bytes());
        if let Some(throttle) = &mut self.received {
            throttle.charge(len as u64);
        }
        let mut left = HEADER_LEN + len + tag_len;
        let mut lengths = Vec::with_capacity(chains.len());
        for (_, capacity) in &chains {
            if left == 0 {
                break;
            }
            let part = left.min(*capacity);
            lengths.push(part as u32);
            left -= part;
        }
        let header = Header::for_guest(header, lengths.len() as u16);
        place.write(&Header::shifted(header, tag_len as i16));
        put_back(queue, chains.len() - lengths.len());
        for ((head, _), part) in chains.iter().zip(lengths) {
            queue.push(memory, *head, part)?;
        }
        Ok(Received::Frame)
    }

    /// Send what the guest made available.
    fn send(&mut self, memory: &Memory, queue: &mut VirtQueue) -> Result<(), DeviceError> {
        loop {
            queue.pause_kicks(memory)?;
            loop {
                if !may_go_on(&mut self.sent)? {
                    // The timer goes on with what waits, so the guest need not kick.
                    return queue.notify(memory);
                }
                let Some(chain) = queue.pop(memory)? else {
                    break;
                };
                let head = chain.head_index();
                let (mut frame, _) = Buffers::of_chain(chain, memory)?;
                if let Some(throttle) = &mut self.sent {
                    throttle.charge(frame.len() as u64);
                }
                let mut header = [0; HEADER_LEN];
                if frame.read(&mut header) == HEADER_LEN {
                    self.send_one(&mut frame, Header::of_guest(header));
                }
                queue.push(memory, head, 0)?;
            }
            queue.notify(memory)?;
            if !queue.resume_kicks(memory)? {
                return Ok(());
            }
        }
    }

    /// A frame that cannot be sent is lost, as on any network.
    fn send_one(&mut self, frame: &mut Buffers<'_>, header: [u8; HEADER_LEN]) {
        let mut start = [0; ADDRESSES + TAG_LEN];
        let read = frame.read(&mut start);
        let (tag, kept) = match Tag::of_frame(&start) {
            Some(tag) => (tag, ADDRESSES),
            None => (Tag::NONE, read),
        };
        let Some(cable) = self.cable(tag) else {
            return;
        };
        let mut front = [0; HEADER_LEN + ADDRESSES + TAG_LEN];
        let header = Header::shifted(header, kept as i16 - read as i16);
        let (place, rest) = front.split_at_mut(HEADER_LEN);
        place.copy_from_slice(&header);
        rest.copy_from_slice(&start);
        let front = front.get_mut(..HEADER_LEN + kept).unwrap_or_default();
        loop {
            match frame.write_frame(cable.tap.as_fd(), front) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                    return self.unplug(tag);
                }
                _ => return,
            }
        }
    }
}

/// Whether the next frame may pass; if not, a timer says when.
fn may_go_on(throttle: &mut Option<Throttle>) -> Result<bool, DeviceError> {
    match throttle {
        Some(throttle) => throttle
            .may_go_on()
            .map_err(|errno| DeviceError::Host(errno.into())),
        None => Ok(true),
    }
}

/// Splits a buffer into the places of the header, of the tag (empty without one) and of the frame
/// that is read around it.
fn lay_out(mut room: Buffers<'_>, tag: Tag) -> Option<(Buffers<'_>, Buffers<'_>, Buffers<'_>)> {
    let header = room.split_front(HEADER_LEN)?;
    if tag == Tag::NONE {
        return Some((header, Buffers::default(), room));
    }
    let mut frame = room.split_front(ADDRESSES)?;
    let gap = room.split_front(TAG_LEN)?;
    frame.append(room);
    Some((header, gap, frame))
}

/// What came of trying to receive a frame.
enum Received {
    Frame,
    Nothing,
    NoRoom,
}

fn put_back(queue: &mut VirtQueue, chains: usize) {
    for _ in 0..chains {
        queue.undo_pop();
    }
}

impl VirtioDevice for Net {
    fn kind(&self) -> u32 {
        super::kind::NET
    }

    fn queues(&self) -> usize {
        2
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn negotiated(&mut self, features: u64) {
        self.features = features;
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        copy_config(&self.mac, offset, data);
    }

    fn queue_event(
        &mut self,
        index: usize,
        memory: &Memory,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        match (index, queues.get_mut(index)) {
            (RX, Some(queue)) => self.receive_all(memory, queue),
            (TX, Some(queue)) => self.send(memory, queue),
            _ => Ok(()),
        }
    }

    fn fd_event(
        &mut self,
        token: u32,
        _readiness: u32,
        memory: &Memory,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        let again = |throttle: &Option<Throttle>| {
            if let Some(throttle) = throttle {
                throttle.fired();
            }
        };
        match token {
            RECEIVE_AGAIN => again(&self.received),
            SEND_AGAIN => again(&self.sent),
            _ => {}
        }
        match (token, queues) {
            (SEND_AGAIN, [_, queue, ..]) if queue.ready() => self.send(memory, queue),
            (SEND_AGAIN, _) => Ok(()),
            (RECEIVE_AGAIN, [queue, ..]) => self.receive_all(memory, queue),
            (_, [queue, ..]) => self.receive(Tag::of_token(token), memory, queue),
            (_, []) => Ok(()),
        }
    }

    fn attach(
        &mut self,
        place: u16,
        file: Option<File>,
        memory: Option<&Memory>,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        let tag = Tag::new(place);
        self.unplug(tag);
        let Some(tap) = file else {
            return Ok(());
        };
        self.poller.watch_edges(tap.as_fd(), tag.token())?;
        self.cables.push(Cable { tag, tap });
        match (memory, queues.get_mut(RX)) {
            (Some(memory), Some(queue)) => self.receive(tag, memory, queue),
            _ => Ok(()),
        }
    }
}
