//! The header of a vsock packet.

/// Its length.
pub(super) const HEADER_LEN: usize = 44;

/// The host's address.
pub(super) const HOST_CID: u64 = 2;

/// The type of a stream packet.
pub(super) const TYPE_STREAM: u16 = 1;

/// What a packet says.
pub(super) mod op {
    /// Open a connection.
    pub(crate) const REQUEST: u16 = 1;
    /// It is open.
    pub(crate) const RESPONSE: u16 = 2;
    /// It is closed, or never was.
    pub(crate) const RST: u16 = 3;
    /// The sender will not send or not receive any more.
    pub(crate) const SHUTDOWN: u16 = 4;
    /// Data.
    pub(crate) const RW: u16 = 5;
    /// How much room the sender has.
    pub(crate) const CREDIT_UPDATE: u16 = 6;
    /// Tell me how much room you have.
    pub(crate) const CREDIT_REQUEST: u16 = 7;
}

/// The sender of a shutdown will not receive any more.
pub(super) const SHUTDOWN_RCV: u32 = 1;
/// The sender of a shutdown will not send any more.
pub(super) const SHUTDOWN_SEND: u32 = 2;
/// Neither.
pub(super) const SHUTDOWN_BOTH: u32 = SHUTDOWN_RCV | SHUTDOWN_SEND;

/// `struct virtio_vsock_hdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    pub(super) len: u32,
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
}

impl Header {
    /// Read it from its bytes.
    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let mut rest: &[u8] = bytes;
        Self {
            src_cid: u64::from_le_bytes(take(&mut rest)),
            dst_cid: u64::from_le_bytes(take(&mut rest)),
            src_port: u32::from_le_bytes(take(&mut rest)),
            dst_port: u32::from_le_bytes(take(&mut rest)),
            len: u32::from_le_bytes(take(&mut rest)),
            kind: u16::from_le_bytes(take(&mut rest)),
            op: u16::from_le_bytes(take(&mut rest)),
            flags: u32::from_le_bytes(take(&mut rest)),
            buf_alloc: u32::from_le_bytes(take(&mut rest)),
            fwd_cnt: u32::from_le_bytes(take(&mut rest)),
        }
    }

    /// Its bytes.
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let fields: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    match bytes.split_first_chunk() {
        Some((value, rest)) => {
            *bytes = rest;
            *value
        }
        None => [0; N],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_and_header_are_the_same(bytes in prop::array::uniform32(any::<u8>()), more in prop::array::uniform12(any::<u8>())) {
            let mut all = [0; HEADER_LEN];
            all[..32].copy_from_slice(&bytes);
            all[32..].copy_from_slice(&more);
            prop_assert_eq!(Header::decode(&all).encode(), all);
        }
    }

    #[test]
    fn fields_lie_where_the_specification_says() {
        let header = Header {
            src_port: 0x0102_0304,
            op: op::RW,
            fwd_cnt: 9,
            ..Header::default()
        };
        let bytes = header.encode();
        assert_eq!(bytes[16..20], [4, 3, 2, 1]);
        assert_eq!(bytes[30..32], [5, 0]);
        assert_eq!(bytes[40..], [9, 0, 0, 0]);
    }
}
