//! The content of directories: blocks of sorted entries, each block readable by itself.

use super::FileType;
use super::format::{BLOCK, DIRENT_SIZE};

/// Packs names into blocks, and so finds out how long the directory is.
///
/// Feed all names (with `.` and `..`) in byte order; the same order later gives the bytes.
#[derive(Debug, Default)]
pub struct Layout {
    full_blocks: u64,
    used: usize,
}

impl Layout {
    /// Adds a name; true if it begins a new block.
    pub fn add(&mut self, name: &[u8]) -> bool {
        let needed = DIRENT_SIZE + name.len();
        if self.used == 0 || self.used + needed > BLOCK {
            self.full_blocks += u64::from(self.used > 0);
            self.used = needed;
            return true;
        }
        self.used += needed;
        false
    }

    /// Bytes of the directory.
    pub fn size(&self) -> u64 {
        self.full_blocks * BLOCK as u64 + self.used as u64
    }
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Dirent<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The inode number.
    pub nid: u64,
    /// What kind of file it is.
    pub file_type: FileType,
}

/// The bytes of a directory with these entries, which are in byte order of their names.
pub fn encode<'a>(entries: impl Iterator<Item = Dirent<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut layout = Layout::default();
    let mut block = Vec::new();
    for entry in entries {
        if layout.add(entry.name) && !block.is_empty() {
            encode_block(&mut out, &block);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
            block.clear();
        }
        block.push(entry);
    }
    encode_block(&mut out, &block);
    out
}

fn encode_block(out: &mut Vec<u8>, entries: &[Dirent<'_>]) {
    let mut name_at = entries.len() * DIRENT_SIZE;
    for entry in entries {
        out.extend(entry.nid.to_le_bytes());
        out.extend((name_at as u16).to_le_bytes());
        out.extend([entry.file_type.dirent_type(), 0]);
        name_at += entry.name.len();
    }
    for entry in entries {
        out.extend_from_slice(entry.name);
    }
}
