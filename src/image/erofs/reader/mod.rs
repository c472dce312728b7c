//! Looks into an image without mounting it: lookup, list, read, links and attributes.
//!
//! Reads what [`Writer`](super::Writer) makes, and uncompressed images of `mkfs.erofs`. Whatever
//! the bytes are, it never panics and never reads or allocates more than the image is long.

mod content;
mod dir;
mod xattrs;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{self, BLOCK, RawInode, SLOT, Superblock, SuperblockError};
use super::{FileType, Timestamp};

pub use dir::DirEntry;

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The image file cannot be read.
    #[error("cannot read the file system image: {0}")]
    Io(#[source] io::Error),
    /// Another kind of file.
    #[error("this is not an EROFS image")]
    NotErofs,
    /// An image with features that layers never have.
    #[error("this EROFS image uses {0}, which is not supported")]
    Unsupported(&'static str),
    /// The content contradicts itself.
    #[error(
        "the EROFS image is damaged: {0}; remove the images that have this layer with `hull rmi --force` and pull them again"
    )]
    Damaged(&'static str),
}

/// An open image.
#[derive(Debug)]
pub struct Reader {
    file: File,
    length: u64,
    superblock: Superblock,
}

/// What an image says about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// The inode number: equal for names of the same file.
    pub nid: u64,
    /// What kind of file it is.
    pub file_type: FileType,
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: Timestamp,
    /// Bytes of content.
    pub size: u64,
    /// Names of the file.
    pub links: u32,
    raw: RawInode,
}

impl Inode {
    /// Major and minor number, for a device.
    pub fn device(&self) -> Option<(u32, u32)> {
        matches!(self.file_type, FileType::CharDevice | FileType::BlockDevice)
            .then(|| format::decode_device(self.raw.place))
    }

    /// Whether this is overlayfs' mark that a file of a lower layer is gone.
    pub fn is_whiteout(&self) -> bool {
        self.file_type == FileType::CharDevice && self.raw.place == 0
    }

    fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }
}

impl Reader {
    /// Opens an image; checks the superblock only.
    pub fn open(file: File) -> Result<Self, ReadError> {
        let length = file.metadata().map_err(ReadError::Io)?.len();
        if length < BLOCK as u64 {
            return Err(ReadError::NotErofs);
        }
        let mut block = [0; BLOCK];
        file.read_exact_at(&mut block, 0).map_err(ReadError::Io)?;
        let superblock = Superblock::decode(&block).map_err(|error| match error {
            SuperblockError::Magic => ReadError::NotErofs,
            SuperblockError::Checksum => ReadError::Damaged("wrong superblock checksum"),
            SuperblockError::Unsupported(what) => ReadError::Unsupported(what),
        })?;
        Ok(Self {
            file,
            length,
            superblock,
        })
    }

    /// Identity of the image.
    pub fn uuid(&self) -> [u8; 16] {
        self.superblock.uuid
    }

    /// Inodes in the image.
    pub fn inode_count(&self) -> u64 {
        self.superblock.inodes
    }

    /// The root directory.
    pub fn root(&self) -> Result<Inode, ReadError> {
        let root = self.inode(self.superblock.root_nid.into())?;
        if !root.is_dir() {
            return Err(ReadError::Damaged("the root is no directory"));
        }
        Ok(root)
    }

    /// The file at `path` (from the root, `/` between names). Symbolic links are not followed,
    /// and `.` and `..` are names like others.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Inode>, ReadError> {
        let mut inode = self.root()?;
        for name in path.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            if !inode.is_dir() {
                return Ok(None);
            }
            let Some(entry) = self.child(&inode, name)? else {
                return Ok(None);
            };
            inode = self.inode(entry.nid)?;
        }
        Ok(Some(inode))
    }

    /// The inode with this number.
    pub fn inode(&self, nid: u64) -> Result<Inode, ReadError> {
        let offset = self
            .inode_offset(nid)
            .ok_or(ReadError::Damaged("inode out of range"))?;
        let mut bytes = [0; RawInode::EXTENDED];
        self.read_exact(&mut bytes[..SLOT], offset)?;
        if bytes[0] & 1 == 1 {
            self.read_exact(&mut bytes[SLOT..], offset + SLOT as u64)?;
        }
        let raw = RawInode::decode(&bytes, self.superblock.epoch)
            .ok_or(ReadError::Damaged("inode of an unknown format"))?;
        let file_type =
            FileType::from_mode(raw.mode).ok_or(ReadError::Damaged("inode of no known type"))?;
        Ok(Inode {
            nid,
            file_type,
            mode: raw.mode & 0o7777,
            uid: raw.uid,
            gid: raw.gid,
            mtime: raw.mtime,
            size: raw.size,
            links: raw.links,
            raw,
        })
    }

    fn inode_offset(&self, nid: u64) -> Option<u64> {
        nid.checked_mul(SLOT as u64)?
            .checked_add(super::blocks::byte_offset(self.superblock.meta_block))
    }

    /// Where what follows the inode and its attributes begins.
    fn body_end(&self, inode: &Inode) -> Result<u64, ReadError> {
        self.inode_offset(inode.nid)
            .and_then(|offset| offset.checked_add(inode.raw.body_len() as u64))
            .ok_or(ReadError::Damaged("inode out of range"))
    }

    fn read_exact(&self, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(ReadError::Damaged("it points beyond its end"));
        }
        self.file
            .read_exact_at(buffer, offset)
            .map_err(ReadError::Io)
    }
}
