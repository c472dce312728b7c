//! The content of one regular file on its way into the image, holes left out.

use super::blocks::Blocks;
use super::format::{BLOCK, NULL_BLOCK};
use super::writer::WriteError;

/// A chunk-based file's table has this many entries at most, unless it has more data than that.
const MAX_CHUNKS: u64 = 1 << 16;

const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A regular file that is being written: feed it with `Writer::append` and `Writer::skip`.
///
/// Content goes out block by block as it comes. A file without holes becomes one run of blocks;
/// one with holes becomes equal chunks, some of which are no blocks at all. In files above
/// 256 MiB a chunk is more than a block, so that the table stays small; blocks of zeros within
/// a chunk that has data are then left out of the image *file*, which is sparse itself.
#[derive(Debug)]
pub struct FileData {
    size: u64,
    /// Bytes that came so far.
    seen: u64,
    /// The last bytes that came, as long as they are no full block.
    partial: Vec<u8>,
    /// A chunk is `1 << chunk_bits` blocks.
    chunk_bits: u8,
    /// The first block of each chunk up to the last one that has data.
    chunks: Vec<u32>,
}

/// Where the content of a complete file is.
#[derive(Debug, PartialEq, Eq)]
pub enum Placed {
    /// In one run of blocks, and what did not fill a block in `tail`.
    Run {
        /// The first block (0 if there is none).
        first: u32,
        /// The bytes after the last block of the run.
        tail: Vec<u8>,
    },
    /// In chunks.
    Chunks {
        /// The chunk size, as a power of two of blocks.
        bits: u8,
        /// The first block of each.
        blocks: Vec<u32>,
    },
}

impl FileData {
    /// A file of `size` bytes; `sparse_data` of them are known to be outside of holes (0 if
    /// nothing is known).
    pub(super) fn new(size: u64, sparse_data: u64) -> Self {
        let blocks = size.div_ceil(BLOCK as u64);
        let chunks = MAX_CHUNKS.max(sparse_data.min(size).div_ceil(BLOCK as u64));
        let chunk_bits = blocks.div_ceil(chunks).max(1).next_power_of_two().ilog2() as u8;
        Self {
            size,
            seen: 0,
            partial: Vec::new(),
            chunk_bits,
            chunks: Vec::new(),
        }
    }

    /// The whole size of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are still to come.
    pub fn missing(&self) -> u64 {
        self.size - self.seen
    }

    /// The next bytes of the content.
    pub(super) fn append(
        &mut self,
        out: &mut Blocks<'_>,
        mut data: &[u8],
    ) -> Result<(), WriteError> {
        if data.len() as u64 > self.missing() {
            return Err(WriteError::FileSize);
        }
        if !self.partial.is_empty() {
            let (head, rest) = data.split_at(data.len().min(BLOCK - self.partial.len()));
            self.partial.extend_from_slice(head);
            self.seen += head.len() as u64;
            data = rest;
            if self.partial.len() == BLOCK {
                let mut block = std::mem::take(&mut self.partial);
                self.blocks(out, self.seen / BLOCK as u64 - 1, &block)?;
                block.clear();
                self.partial = block;
            }
        }
        let (full, rest) = data.split_at(data.len() - data.len() % BLOCK);
        self.blocks(out, self.seen / BLOCK as u64, full)?;
        self.partial.extend_from_slice(rest);
        self.seen += data.len() as u64;
        Ok(())
    }

    /// The next `count` bytes of the content are zeros.
    pub(super) fn skip(&mut self, out: &mut Blocks<'_>, count: u64) -> Result<(), WriteError> {
        if count > self.missing() {
            return Err(WriteError::FileSize);
        }
        let to_block = (BLOCK - self.partial.len()) % BLOCK;
        let head = count.min(to_block as u64);
        self.append(out, &ZEROS[..head as usize])?;
        let tail = (count - head) % BLOCK as u64;
        self.seen += count - head - tail;
        self.append(out, &ZEROS[..tail as usize])
    }

    /// Full blocks, of which the first is number `index` of the file. Zeros need nothing done.
    fn blocks(
        &mut self,
        out: &mut Blocks<'_>,
        mut index: u64,
        mut data: &[u8],
    ) -> Result<(), WriteError> {
        while !data.is_empty() {
            let zero = is_zero(&data[..BLOCK]);
            let alike = data
                .chunks(BLOCK)
                .take_while(|block| is_zero(block) == zero)
                .count();
            let (run, rest) = data.split_at(alike * BLOCK);
            if !zero {
                self.run(out, index, run)?;
            }
            index += alike as u64;
            data = rest;
        }
        Ok(())
    }

    /// Full blocks that are to be written.
    fn run(&mut self, out: &mut Blocks<'_>, index: u64, data: &[u8]) -> Result<(), WriteError> {
        // Neighbours in the file are nearly always neighbours in the image: one write for them.
        let mut start = 0;
        let mut first = self.block(out, index)?;
        for offset in (BLOCK..data.len()).step_by(BLOCK) {
            let block = self.block(out, index + (offset / BLOCK) as u64)?;
            if block != first + ((offset - start) / BLOCK) as u32 {
                out.write(first, &data[start..offset])?;
                (start, first) = (offset, block);
            }
        }
        out.write(first, &data[start..])
    }

    /// The image block for block number `index` of the file.
    fn block(&mut self, out: &mut Blocks<'_>, index: u64) -> Result<u32, WriteError> {
        let chunk = index >> self.chunk_bits;
        let begin = chunk << self.chunk_bits;
        let position = chunk as usize;
        if position >= self.chunks.len() {
            let count = (1 << self.chunk_bits).min(self.size.div_ceil(BLOCK as u64) - begin);
            let first = out.take(count)?;
            self.chunks.resize(position, NULL_BLOCK);
            self.chunks.push(first);
        }
        Ok(self.chunks[position] + (index - begin) as u32)
    }

    /// Where everything is, once everything has come. What does not fill a block can be stored
    /// with the inode if it is no more than `inline_room` bytes.
    pub(super) fn finish(
        mut self,
        out: &mut Blocks<'_>,
        inline_room: usize,
    ) -> Result<Placed, WriteError> {
        if self.missing() > 0 {
            return Err(WriteError::FileSize);
        }
        let full_blocks = self.size / BLOCK as u64;
        let mut tail = std::mem::take(&mut self.partial);
        if self.chunk_bits == 0 && tail.len() <= inline_room && self.is_run(full_blocks) {
            return Ok(Placed::Run {
                first: self.first(),
                tail,
            });
        }
        if !is_zero(&tail) {
            tail.resize(BLOCK, 0);
            self.run(out, full_blocks, &tail)?;
        }
        let chunks = self.size.div_ceil((BLOCK as u64) << self.chunk_bits);
        if self.is_run(chunks) {
            return Ok(Placed::Run {
                first: self.first(),
                tail: Vec::new(),
            });
        }
        self.chunks.resize(chunks as usize, NULL_BLOCK);
        Ok(Placed::Chunks {
            bits: self.chunk_bits,
            blocks: self.chunks,
        })
    }

    fn first(&self) -> u32 {
        self.chunks.first().copied().unwrap_or(0)
    }

    /// Whether the first `count` chunks are all there, one behind the other.
    fn is_run(&self, count: u64) -> bool {
        let first = u64::from(self.first());
        self.chunks.len() as u64 == count
            && self.chunks.iter().zip(0u64..).all(|(&block, i)| {
                block != NULL_BLOCK && u64::from(block) == first + (i << self.chunk_bits)
            })
    }
}

/// Whether all bytes are zero.
fn is_zero(data: &[u8]) -> bool {
    let (words, rest) = data.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|&b| b == 0)
}
