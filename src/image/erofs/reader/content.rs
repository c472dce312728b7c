//! What is in regular files and symbolic links.

use super::super::blocks::byte_offset;
use super::super::format::{
    BLOCK, BLOCK_BITS, CHUNK_BITS_MASK, CHUNK_INDEXES, LAYOUT_CHUNKED, LAYOUT_INLINE, LAYOUT_PLAIN,
    NULL_BLOCK, u32_at,
};
use super::super::{FileType, MAX_SYMLINK};
use super::{Inode, ReadError, Reader};

/// A piece of a file's content.
struct Piece {
    /// Where it is in the image; nowhere if it is a hole.
    offset: Option<u64>,
    /// How far it goes on from the place that was asked for.
    length: u64,
}

impl Reader {
    /// Reads content of a file from `offset` on, and returns how much that was: less than
    /// `buffer` only at the file's end.
    pub fn read_at(
        &self,
        inode: &Inode,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<usize, ReadError> {
        if !matches!(
            inode.file_type,
            FileType::Regular | FileType::Symlink | FileType::Directory
        ) {
            return Ok(0);
        }
        let wanted = inode.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < wanted {
            let piece = self.piece(inode, offset + done as u64)?;
            let length = piece.length.min((wanted - done) as u64) as usize;
            let target = &mut buffer[done..done + length];
            match piece.offset {
                Some(at) => self.read_exact(target, at)?,
                None => target.fill(0),
            }
            done += length;
        }
        Ok(done)
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, inode: &Inode) -> Result<Vec<u8>, ReadError> {
        if inode.file_type != FileType::Symlink || inode.size > MAX_SYMLINK as u64 {
            return Err(ReadError::Damaged(
                "not a symbolic link, or one that is too long",
            ));
        }
        let mut target = vec![0; inode.size as usize];
        self.read_at(inode, &mut target, 0)?;
        Ok(target)
    }

    /// The piece of content at `at`, which is before the file's end.
    fn piece(&self, inode: &Inode, at: u64) -> Result<Piece, ReadError> {
        const BEYOND: ReadError = ReadError::Damaged("it points beyond its end");
        let first = byte_offset(inode.raw.place);
        let run = |length| -> Result<Piece, ReadError> {
            let offset = if inode.raw.place == NULL_BLOCK {
                None
            } else {
                Some(first.checked_add(at).ok_or(BEYOND)?)
            };
            Ok(Piece { offset, length })
        };
        match inode.raw.layout {
            LAYOUT_PLAIN => run(inode.size - at),
            LAYOUT_INLINE => {
                let in_blocks = inode.size - inode.size % BLOCK as u64;
                if at < in_blocks {
                    return run(in_blocks - at);
                }
                let tail = self.body_end(inode)?;
                let offset = tail.checked_add(at - in_blocks).ok_or(BEYOND)?;
                Ok(Piece {
                    offset: Some(offset),
                    length: inode.size - at,
                })
            }
            LAYOUT_CHUNKED => self.chunk(inode, at),
            _ => Err(ReadError::Unsupported("compression")),
        }
    }

    fn chunk(&self, inode: &Inode, at: u64) -> Result<Piece, ReadError> {
        const BAD: ReadError = ReadError::Damaged("a file's chunk table makes no sense");
        let format = inode.raw.place & 0xffff;
        let bits = (format & CHUNK_BITS_MASK) + u32::from(BLOCK_BITS);
        let (unit, block_at) = if format & CHUNK_INDEXES != 0 {
            (8, 4)
        } else {
            (4, 0)
        };
        let begin = self.body_end(inode)?.next_multiple_of(unit);
        let entry = (at >> bits)
            .checked_mul(unit)
            .and_then(|o| o.checked_add(begin))
            .ok_or(BAD)?;
        let mut bytes = [0; 8];
        self.read_exact(&mut bytes[..unit as usize], entry)?;
        let block = u32_at(&bytes, block_at).ok_or(BAD)?;
        let within = at & ((1 << bits) - 1);
        let length = ((1 << bits) - within).min(inode.size - at);
        let offset = (block != NULL_BLOCK).then(|| byte_offset(block).checked_add(within));
        Ok(Piece {
            offset: offset.map(|offset| offset.ok_or(BAD)).transpose()?,
            length,
        })
    }
}
