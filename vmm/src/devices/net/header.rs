//! The header before each frame, `struct virtio_net_hdr_v1`: the same on both sides.

use virtio_bindings::virtio_net as net;

/// Its length.
pub(super) const HEADER_LEN: usize = 12;

/// Where the number of merged buffers lies.
const BUFFERS: usize = 10;

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
}
