//! The on-disk structures, as numbers and bytes: what the writer and the reader share.

use super::Timestamp;

/// Bytes in a block.
pub const BLOCK: usize = 1 << BLOCK_BITS;
/// Bytes in a block, as a power of two.
pub const BLOCK_BITS: u8 = 12;
/// A chunk that is a hole, in a chunk-based file's block map.
pub const NULL_BLOCK: u32 = u32::MAX;
/// Where the superblock is.
pub const SUPER_OFFSET: usize = 1024;
/// Bytes of the superblock.
pub const SUPER_SIZE: usize = 128;
/// The root directory's inode follows the superblock.
pub const ROOT_NID: u16 = ((SUPER_OFFSET + SUPER_SIZE) / SLOT) as u16;
/// Inode numbers count in these.
pub const SLOT: usize = 32;
/// Bytes of a directory entry, without its name.
pub const DIRENT_SIZE: usize = 12;
/// Bytes before an inode's own attributes.
pub const XATTR_HEADER: usize = 12;

const MAGIC: u32 = 0xE0F5_E1E2;
const COMPAT_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
const INCOMPAT_CHUNKED: u32 = 4;

/// Data in one run of blocks.
pub const LAYOUT_PLAIN: u16 = 0;
/// Data in one run of blocks, the rest after the last full block behind the inode.
pub const LAYOUT_INLINE: u16 = 2;
/// Data in equal chunks, with a table of their places behind the inode.
pub const LAYOUT_CHUNKED: u16 = 4;

/// Chunk format: the chunk size, as a power of two of blocks.
pub const CHUNK_BITS_MASK: u32 = 0x1f;
/// Chunk format: 8 bytes per table entry instead of 4.
pub const CHUNK_INDEXES: u32 = 0x20;

/// Little-endian number at `offset`, if `bytes` reaches that far.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Little-endian number at `offset`, if `bytes` reaches that far.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Little-endian number at `offset`, if `bytes` reaches that far.
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// What this implementation uses of the superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The root directory's inode number.
    pub root_nid: u16,
    /// Inodes in the image.
    pub inodes: u64,
    /// Time of every compact inode.
    pub epoch: Timestamp,
    /// Blocks in the image.
    pub blocks: u32,
    /// First block of the area in which inode numbers count.
    pub meta_block: u32,
    /// First block of the shared attributes.
    pub xattr_block: u32,
    /// Identity of the image.
    pub uuid: [u8; 16],
    /// Whether any file is chunk-based.
    pub chunked: bool,
}

/// Why the first block holds no usable superblock.
#[derive(Debug, PartialEq, Eq)]
pub enum SuperblockError {
    /// Not this file system, or too short.
    Magic,
    /// Damaged.
    Checksum,
    /// Something that this reader does not know.
    Unsupported(&'static str),
}

impl Superblock {
    /// Writes the superblock into the image's first block, whose other bytes must be final.
    pub fn encode_into(&self, block: &mut [u8; BLOCK]) {
        let sb = &mut block[SUPER_OFFSET..];
        sb[..SUPER_SIZE].fill(0);
        sb[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        sb[8..12].copy_from_slice(&(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        sb[12] = BLOCK_BITS;
        sb[14..16].copy_from_slice(&self.root_nid.to_le_bytes());
        sb[16..24].copy_from_slice(&self.inodes.to_le_bytes());
        sb[24..32].copy_from_slice(&self.epoch.secs.to_le_bytes());
        sb[32..36].copy_from_slice(&self.epoch.nanos.to_le_bytes());
        sb[36..40].copy_from_slice(&self.blocks.to_le_bytes());
        sb[40..44].copy_from_slice(&self.meta_block.to_le_bytes());
        sb[44..48].copy_from_slice(&self.xattr_block.to_le_bytes());
        sb[48..64].copy_from_slice(&self.uuid);
        let incompat = if self.chunked { INCOMPAT_CHUNKED } else { 0 };
        sb[80..84].copy_from_slice(&incompat.to_le_bytes());
        let checksum = checksum(sb);
        sb[4..8].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads and checks the superblock in the image's first block.
    pub fn decode(block: &[u8; BLOCK]) -> Result<Self, SuperblockError> {
        let mut sb = *block;
        let sb = &mut sb[SUPER_OFFSET..];
        let u16 = |at| u16_at(sb, at).unwrap_or_default();
        let u32 = |at| u32_at(sb, at).unwrap_or_default();
        let u64 = |at| u64_at(sb, at).unwrap_or_default();
        if u32(0) != MAGIC {
            return Err(SuperblockError::Magic);
        }
        if sb[12] != BLOCK_BITS {
            return Err(SuperblockError::Unsupported("a block size other than 4096"));
        }
        if u32(80) & !INCOMPAT_CHUNKED != 0 || u16(86) != 0 {
            return Err(SuperblockError::Unsupported(
                "compression or several devices",
            ));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&sb[48..64]);
        let decoded = Self {
            root_nid: u16(14),
            inodes: u64(16),
            epoch: Timestamp {
                secs: u64(24).cast_signed(),
                nanos: u32(32),
            },
            blocks: u32(36),
            meta_block: u32(40),
            xattr_block: u32(44),
            uuid,
            chunked: u32(80) & INCOMPAT_CHUNKED != 0,
        };
        let (stated, checked) = (u32(4), u32(8) & COMPAT_CHECKSUM != 0);
        sb[4..8].fill(0);
        if checked && stated != checksum(sb) {
            return Err(SuperblockError::Checksum);
        }
        Ok(decoded)
    }
}

/// CRC32C without the usual inversion at the end, over the superblock with checksum 0 and what
/// follows it in the block.
fn checksum(superblock: &[u8]) -> u32 {
    !crc32c::crc32c(superblock)
}

/// An inode, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawInode {
    /// 32 bytes instead of 64: the superblock's time, small numbers.
    pub compact: bool,
    /// One of the `LAYOUT_…` numbers.
    pub layout: u16,
    /// 0, or 1 plus the 4-byte units after the attribute header.
    pub xattr_count: u16,
    /// Type and permissions.
    pub mode: u16,
    /// Bytes of content.
    pub size: u64,
    /// First block, device number or chunk format.
    pub place: u32,
    /// A short number for this inode.
    pub ino: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: Timestamp,
    /// Names of this inode.
    pub links: u32,
}

impl RawInode {
    /// Bytes of a compact inode.
    pub const COMPACT: usize = 32;
    /// Bytes of an extended inode.
    pub const EXTENDED: usize = 64;

    /// Whether the short form can hold everything, given the time that it implies.
    pub fn fits_compact(&self, epoch: Timestamp) -> bool {
        self.mtime == epoch
            && self.size <= u64::from(u32::MAX)
            && self.uid.max(self.gid).max(self.links) <= u32::from(u16::MAX)
    }

    /// Bytes of the inode itself.
    pub const fn len(&self) -> usize {
        if self.compact {
            Self::COMPACT
        } else {
            Self::EXTENDED
        }
    }

    /// Bytes of the inode with its attributes; what comes inline begins after them.
    pub const fn body_len(&self) -> usize {
        self.len() + xattr_len(self.xattr_count)
    }

    /// The stored form. For a compact inode, [`Self::fits_compact`] must hold.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK);
        out.extend((self.layout << 1 | u16::from(!self.compact)).to_le_bytes());
        out.extend(self.xattr_count.to_le_bytes());
        out.extend(self.mode.to_le_bytes());
        if self.compact {
            out.extend((self.links as u16).to_le_bytes());
            out.extend((self.size as u32).to_le_bytes());
            out.extend([0; 4]);
            out.extend(self.place.to_le_bytes());
            out.extend(self.ino.to_le_bytes());
            out.extend((self.uid as u16).to_le_bytes());
            out.extend((self.gid as u16).to_le_bytes());
            out.extend([0; 4]);
        } else {
            out.extend([0; 2]);
            out.extend(self.size.to_le_bytes());
            out.extend(self.place.to_le_bytes());
            out.extend(self.ino.to_le_bytes());
            out.extend(self.uid.to_le_bytes());
            out.extend(self.gid.to_le_bytes());
            out.extend(self.mtime.secs.to_le_bytes());
            out.extend(self.mtime.nanos.to_le_bytes());
            out.extend(self.links.to_le_bytes());
            out.extend([0; 16]);
        }
        out
    }

    /// The inode in `bytes` (32 of them for a compact one, else 64).
    pub fn decode(bytes: &[u8], epoch: Timestamp) -> Option<Self> {
        let format = u16_at(bytes, 0)?;
        let (compact, layout) = (format & 1 == 0, format >> 1);
        if layout > 7 {
            return None;
        }
        let u16 = |at| u16_at(bytes, at);
        let u32 = |at| u32_at(bytes, at);
        let (xattr_count, mode) = (u16(2)?, u16(4)?);
        Some(if compact {
            Self {
                compact,
                layout,
                xattr_count,
                mode,
                size: u32(8)?.into(),
                place: u32(16)?,
                ino: u32(20)?,
                uid: u16(24)?.into(),
                gid: u16(26)?.into(),
                mtime: Timestamp {
                    secs: epoch.secs.wrapping_add(u32(12)?.into()),
                    ..epoch
                },
                links: u16(6)?.into(),
            }
        } else {
            Self {
                compact,
                layout,
                xattr_count,
                mode,
                size: u64_at(bytes, 8)?,
                place: u32(16)?,
                ino: u32(20)?,
                uid: u32(24)?,
                gid: u32(28)?,
                mtime: Timestamp {
                    secs: u64_at(bytes, 32)?.cast_signed(),
                    nanos: u32(40)?,
                },
                links: u32(44)?,
            }
        })
    }
}

/// Bytes of an inode's attribute body.
pub const fn xattr_len(count: u16) -> usize {
    if count == 0 {
        0
    } else {
        XATTR_HEADER + 4 * (count as usize - 1)
    }
}

/// The device number as stored.
pub const fn encode_device(major: u32, minor: u32) -> Option<u32> {
    if major > 0xfff || minor > 0xf_ffff {
        return None;
    }
    Some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// Major and minor of a stored device number.
pub const fn decode_device(device: u32) -> (u32, u32) {
    (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn devices() {
        assert_eq!(encode_device(0, 0), Some(0));
        assert_eq!(encode_device(1, 3), Some(0x103));
        assert_eq!(encode_device(0x1000, 0), None);
        assert_eq!(encode_device(0, 0x10_0000), None);
    }

    proptest! {
        #[test]
        fn device_round_trip(major in 0..=0xfffu32, minor in 0..=0xf_ffffu32) {
            prop_assert_eq!(decode_device(encode_device(major, minor).unwrap()), (major, minor));
        }

        #[test]
        fn superblock_round_trip(root_nid: u16, inodes: u64, blocks: u32, secs: i64, uuid: [u8; 16],
                                 chunked: bool, flip in SUPER_OFFSET..BLOCK) {
            let sb = Superblock {
                root_nid, inodes, blocks, uuid, chunked,
                epoch: Timestamp { secs, nanos: 5 }, meta_block: 1, xattr_block: 2,
            };
            let mut block = [0xa5; BLOCK];
            sb.encode_into(&mut block);
            prop_assert_eq!(Superblock::decode(&block), Ok(sb));
            block[flip] ^= 4;
            prop_assert!(Superblock::decode(&block).is_err());
        }
    }
}
