//! The header before each frame, `struct virtio_net_hdr_v1`: the same on both sides.

use virtio_bindings::virtio_net as net;

/// Its length.
pub(super) const HEADER_LEN: usize = 12;

/// Where the number of merged buffers lies.
const BUFFERS: usize = 10;

/// Where it says how a large segment is to be cut, and how long its headers are.
const GSO_TYPE: usize = 1;
const HEADERS: usize = 2;

/// Where it says at which byte of the frame the sum begins.
const CHECKSUM: usize = 6;

/// What the guest may say about a frame of its own.
const FLAGS: u8 = net::VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;

/// Changes to headers on their way through.
pub(super) struct Header;

impl Header {
    /// A header from the TAP device, for a frame that lies in so many of the guest's buffers.
    pub(super) fn for_guest(mut header: [u8; HEADER_LEN], buffers: u16) -> [u8; HEADER_LEN] {
        let [low, high] = buffers.to_le_bytes();
        header[BUFFERS] = low;
        header[BUFFERS + 1] = high;
        header
    }

    /// A header from the guest, without what only the device may say. The host's kernel checks
    /// the rest against the frame.
    pub(super) fn of_guest(mut header: [u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
        header[0] &= FLAGS;
        header[BUFFERS] = 0;
        header[BUFFERS + 1] = 0;
        header
    }

    /// A header for a frame that has become so many bytes longer before the place where its
    /// checksum begins.
    pub(super) fn shifted(mut header: [u8; HEADER_LEN], by: i16) -> [u8; HEADER_LEN] {
        let shift = |header: &mut [u8; HEADER_LEN], at: usize| {
            let place = u16::from_le_bytes([header[at], header[at + 1]]);
            let [low, high] = place.saturating_add_signed(by).to_le_bytes();
            header[at] = low;
            header[at + 1] = high;
        };
        if header[GSO_TYPE] != 0 {
            shift(&mut header, HEADERS);
        }
        if header[0] & FLAGS != 0 {
            shift(&mut header, CHECKSUM);
        }
        header
    }
}
