//! What is in directories.

use std::cmp::Ordering;

use super::super::FileType;
use super::super::format::{BLOCK, DIRENT_SIZE, u16_at, u64_at};
use super::{Inode, ReadError, Reader};

const BAD: ReadError = ReadError::Damaged("a directory's entries make no sense");

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Vec<u8>,
    /// The number of the inode that it stands for.
    pub nid: u64,
    /// What kind of file that is.
    pub file_type: FileType,
}

impl Reader {
    /// Everything in a directory but `.` and `..`, in byte order.
    pub fn read_dir(&self, dir: &Inode) -> Result<Vec<DirEntry>, ReadError> {
        let mut entries = Vec::new();
        for index in 0..self.dir_blocks(dir)? {
            let block = DirBlock::read(self, dir, index)?;
            for position in 0..block.count {
                let name = block.name(position)?;
                if name != b"." && name != b".." {
                    entries.push(block.entry(position)?);
                }
            }
        }
        Ok(entries)
    }

    /// The entry of this name in a directory.
    pub fn child(&self, dir: &Inode, name: &[u8]) -> Result<Option<DirEntry>, ReadError> {
        // The last block whose first name is not after the one that is wanted.
        let (mut low, mut high) = (0, self.dir_blocks(dir)?);
        let mut candidate = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let block = DirBlock::read(self, dir, middle)?;
            if block.name(0)? <= name {
                candidate = Some(block);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(block) = candidate else {
            return Ok(None);
        };
        let (mut low, mut high) = (0, block.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match block.name(middle)?.cmp(name) {
                Ordering::Equal => return block.entry(middle).map(Some),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    fn dir_blocks(&self, dir: &Inode) -> Result<u64, ReadError> {
        if !dir.is_dir() {
            return Err(ReadError::Damaged("not a directory"));
        }
        if dir.size > self.length {
            return Err(BAD);
        }
        Ok(dir.size.div_ceil(BLOCK as u64))
    }
}

/// One block of a directory, which can be read without the others.
struct DirBlock {
    bytes: Vec<u8>,
    count: usize,
}

impl DirBlock {
    fn read(reader: &Reader, dir: &Inode, index: u64) -> Result<Self, ReadError> {
        let mut bytes = vec![0; BLOCK];
        let length = reader.read_at(dir, &mut bytes, index * BLOCK as u64)?;
        bytes.truncate(length);
        // The first name follows the last entry.
        let names = usize::from(u16_at(&bytes, 8).ok_or(BAD)?);
        if names == 0 || names % DIRENT_SIZE != 0 || names > length {
            return Err(BAD);
        }
        Ok(Self {
            bytes,
            count: names / DIRENT_SIZE,
        })
    }

    fn name_offset(&self, position: usize) -> Result<usize, ReadError> {
        u16_at(&self.bytes, position * DIRENT_SIZE + 8)
            .map(usize::from)
            .ok_or(BAD)
    }

    fn name(&self, position: usize) -> Result<&[u8], ReadError> {
        let begin = self.name_offset(position)?;
        let name = if position + 1 < self.count {
            self.bytes
                .get(begin..self.name_offset(position + 1)?)
                .ok_or(BAD)?
        } else {
            // The last name goes to the end of the directory or to the first zero.
            let rest = self.bytes.get(begin..).ok_or(BAD)?;
            rest.split(|&b| b == 0).next().unwrap_or_default()
        };
        if name.is_empty() || name.len() > super::super::MAX_NAME || name.contains(&b'/') {
            return Err(BAD);
        }
        Ok(name)
    }

    fn entry(&self, position: usize) -> Result<DirEntry, ReadError> {
        let at = position * DIRENT_SIZE;
        Ok(DirEntry {
            name: self.name(position)?.to_vec(),
            nid: u64_at(&self.bytes, at).ok_or(BAD)?,
            file_type: self
                .bytes
                .get(at + 10)
                .and_then(|number| FileType::from_dirent(*number))
                .ok_or(BAD)?,
        })
    }
}
