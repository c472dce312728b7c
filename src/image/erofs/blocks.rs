//! Where things go in the image: runs of data blocks, and inode records packed into blocks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{BLOCK, BLOCK_BITS, SLOT};
use super::writer::WriteError;

/// Inode blocks that are being filled at the same time: enough to pack tails well.
const OPEN_BLOCKS: usize = 16;
/// Inode blocks reserved at once, so that inodes of neighbours are neighbours: grows up to this.
const MAX_RUN: u32 = 256;
/// Block numbers are 32 bits wide, the last one means a hole.
const MAX_BLOCKS: u32 = u32::MAX - 1;

/// An inode block that still has room.
#[derive(Debug)]
struct OpenBlock {
    number: u32,
    bytes: Vec<u8>,
}

/// Hands out blocks and writes them.
#[derive(Debug)]
pub struct Blocks<'a> {
    file: &'a File,
    /// The first block that nobody has.
    next: u32,
    /// Reserved for inodes, not yet in use.
    run: std::ops::Range<u32>,
    run_length: u32,
    open: Vec<OpenBlock>,
}

impl<'a> Blocks<'a> {
    /// Writes to `file`; block 0 is taken.
    pub fn new(file: &'a File) -> Self {
        Self {
            file,
            next: 1,
            run: 0..0,
            run_length: 4,
            open: Vec::with_capacity(OPEN_BLOCKS),
        }
    }

    /// The first block that nobody has.
    pub fn end(&self) -> u32 {
        self.next
    }

    /// Takes `count` blocks in a row.
    pub fn take(&mut self, count: u64) -> Result<u32, WriteError> {
        let first = self.next;
        self.next = u32::try_from(count)
            .ok()
            .and_then(|count| first.checked_add(count))
            .filter(|end| *end <= MAX_BLOCKS)
            .ok_or(WriteError::ImageTooLarge)?;
        Ok(first)
    }

    /// Writes `data` into taken blocks from the start of `block`.
    pub fn write(&self, block: u32, data: &[u8]) -> Result<(), WriteError> {
        self.write_at(byte_offset(block), data)
    }

    /// Writes `data` at a byte offset in taken blocks.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), WriteError> {
        self.file.write_all_at(data, offset).map_err(WriteError::Io)
    }

    /// Puts an inode with all that follows it into the image, and returns its number.
    ///
    /// A record of at most one block never crosses a block boundary.
    pub fn place(&mut self, record: &[u8]) -> Result<u64, WriteError> {
        if record.len() > BLOCK {
            let first = self.take(record.len().div_ceil(BLOCK) as u64)?;
            self.write(first, record)?;
            return Ok(nid(first, 0));
        }
        let best = self
            .open
            .iter_mut()
            .filter(|block| block.bytes.len() + record.len() <= BLOCK)
            .max_by_key(|block| block.bytes.len());
        let block = match best {
            Some(block) => block,
            None => self.open_block()?,
        };
        let nid = nid(block.number, block.bytes.len());
        block.bytes.extend_from_slice(record);
        let padded = block.bytes.len().next_multiple_of(SLOT);
        block.bytes.resize(padded, 0);
        Ok(nid)
    }

    fn open_block(&mut self) -> Result<&mut OpenBlock, WriteError> {
        if self.open.len() == OPEN_BLOCKS {
            let fullest = (0..OPEN_BLOCKS).max_by_key(|&i| self.open[i].bytes.len());
            let full = self.open.swap_remove(fullest.unwrap_or_default());
            self.write(full.number, &full.bytes)?;
        }
        let number = match self.run.next() {
            Some(number) => number,
            None => {
                let first = self.take(self.run_length.into())?;
                self.run = first + 1..self.next;
                self.run_length = (self.run_length * 2).min(MAX_RUN);
                first
            }
        };
        self.open.push(OpenBlock {
            number,
            bytes: Vec::with_capacity(BLOCK),
        });
        let last = self.open.len() - 1;
        Ok(&mut self.open[last])
    }

    /// Writes the inode blocks that were still being filled and gives reserved ones back.
    pub fn flush_records(&mut self) -> Result<(), WriteError> {
        for block in std::mem::take(&mut self.open) {
            self.write(block.number, &block.bytes)?;
        }
        if self.run.end == self.next {
            self.next = self.next.min(self.run.start.max(1));
        }
        self.run = 0..0;
        Ok(())
    }

    /// Makes the file exactly as long as its blocks.
    pub fn truncate(&self) -> io::Result<()> {
        self.file.set_len(byte_offset(self.next))
    }
}

/// The byte at which `block` begins.
pub const fn byte_offset(block: u32) -> u64 {
    (block as u64) << BLOCK_BITS
}

/// The inode number of what begins at `offset` in `block`.
pub const fn nid(block: u32, offset: usize) -> u64 {
    (byte_offset(block) + offset as u64) / SLOT as u64
}
