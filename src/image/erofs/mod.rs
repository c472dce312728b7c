//! EROFS, the read-only file system in which a guest gets an image's layers.
//!
//! [`Writer`] makes an uncompressed image in one pass over its input and with little memory;
//! [`Reader`] looks into one without mounting it. Neither needs privileges.
//!
//! # Shape of an image
//!
//! Everything is little endian, in blocks of 4096 bytes:
//!
//! | where | what |
//! | --- | --- |
//! | block 0 | superblock at byte 1024, the root directory's inode at byte 1152 |
//! | then, as the input comes | runs of file data, and runs of blocks with inodes and inlined tails |
//! | at the end | the other directories' inodes, directory data, the shared xattr area |
//!
//! An inode number (`nid`) is the inode's byte offset divided by 32, so an inode may lie
//! anywhere: it is written the moment its file is complete, and only its link count is patched
//! later. Memory holds names and 24 bytes per inode, nothing else.
//!
//! The same calls in the same order give the same bytes. A change that makes them give other
//! bytes changes every stored layer: raise [`FORMAT_VERSION`] with it.

mod blocks;
mod data;
mod directory;
mod format;
mod metadata;
mod reader;
mod tree;
mod writer;
mod xattr;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub use tests::extract as fsck_and_extract;

pub use data::FileData;
pub use metadata::{FileType, Metadata, Timestamp, Xattrs};
pub use reader::{DirEntry, Inode, ReadError, Reader};
pub use tree::{DirId, Entry, FileId, Tree};
pub use writer::{WriteError, Writer};
pub use xattr::{MAX_VALUE as MAX_XATTR_VALUE, MAX_XATTRS, is_storable as is_storable_xattr};

/// Raised whenever the bytes written for the same input change.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes in a block.
pub const BLOCK: usize = format::BLOCK;

/// The longest file name, in bytes.
pub const MAX_NAME: usize = 255;

/// The longest symbolic link target, in bytes.
pub const MAX_SYMLINK: usize = 4095;
