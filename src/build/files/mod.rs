//! Files to copy from: the build context or another image, behind one interface, and the
//! lookup of paths in them that never leaves their root.

mod context;
mod entries;
mod image;
mod pattern;
mod resolve;

use std::io::Read;
use std::sync::Arc;

pub use context::{Context, ContextError};
pub use entries::EntriesTree;
pub use image::ImageTree;
pub use pattern::{Ignore, Pattern, is_pattern};
pub use resolve::{Place, find, glob, names, read_small, resolve};

use crate::image::ImageError;
use crate::image::erofs::{FileType, Xattrs};

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// In the context.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// In an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Links that lead to each other.
    #[error("{0}: too many levels of symbolic links")]
    Loop(String),
    /// A file in the middle of a path.
    #[error("{0}: not a directory")]
    NotDirectory(String),
    /// A pattern that makes no sense.
    #[error("{0:?} is not a pattern: {1}")]
    Pattern(String, &'static str),
    /// Directories in directories, more than anybody needs.
    #[error("{0}: directories are too deep in each other, the limit is {MAX_DEPTH}")]
    Deep(String),
    /// Reading failed.
    #[error("cannot read {0}: {1}")]
    Read(String, std::io::Error),
}

/// How deep directories may lie in each other: walking through them must not need a stack without
/// bounds.
pub const MAX_DEPTH: usize = 512;

/// Refuses a path that is too deep.
pub fn check_depth(path: &[u8]) -> Result<(), FileError> {
    match path.split(|b| *b == b'/').count() > MAX_DEPTH {
        true => {
            let begin = path.get(..80).unwrap_or(path);
            Err(FileError::Deep(format!(
                "{}…",
                String::from_utf8_lossy(begin)
            )))
        }
        false => Ok(()),
    }
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub struct Meta {
    /// What kind.
    pub kind: FileType,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Bytes of content.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// The same for all names of one file, where that is to be kept.
    pub identity: Option<(usize, u64)>,
}

impl Meta {
    /// A root directory that nobody described.
    pub const ROOT: Self = Self {
        kind: FileType::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: 0,
        size: 0,
        device: (0, 0),
        identity: None,
    };
}

/// A file.
#[derive(Debug, Clone)]
pub struct Node {
    /// What is known of it.
    pub meta: Meta,
    place: Where,
}

#[derive(Debug, Clone)]
enum Where {
    Context(context::Path),
    Image(crate::image::ViewNode),
    Entry(Vec<u8>),
}

/// Files below one root.
pub trait Tree: Send + Sync + std::fmt::Debug {
    /// The root directory.
    fn root(&self) -> Result<Node, FileError>;
    /// What is called `name` in a directory.
    fn child(&self, directory: &Node, name: &[u8]) -> Result<Option<Node>, FileError>;
    /// Everything in a directory, sorted by name.
    fn children(&self, directory: &Node) -> Result<Vec<(Vec<u8>, Node)>, FileError>;
    /// Where a symbolic link leads.
    fn link(&self, node: &Node) -> Result<Vec<u8>, FileError>;
    /// A regular file's content.
    fn open(&self, node: &Node) -> Result<Box<dyn Read + Send>, FileError>;
    /// Extended attributes.
    fn xattrs(&self, node: &Node) -> Result<Xattrs, FileError>;
}

/// A tree that several steps use.
pub type SharedTree = Arc<dyn Tree>;

#[cfg(test)]
mod tests;
