//! What can be wrong with a layer.

use std::io;

use super::tar::TarError;
use crate::image::erofs::WriteError;

/// Why a layer cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The input fails.
    #[error("cannot read the layer: {0}")]
    Read(#[source] io::Error),
    /// The compressed data is damaged or ends too early.
    #[error("the layer's {kind} data is damaged or truncated: {source}; pull the image again")]
    Decompress {
        /// How it is compressed.
        kind: &'static str,
        /// What the decompressor says.
        source: io::Error,
    },
    /// A compression that is not implemented.
    #[error("the layer is compressed with {0}, which is not supported: use gzip, zstd or none")]
    Compression(&'static str),
    /// The archive cannot be read at this place.
    #[error("the layer's tar archive is damaged after entry {after}: {source}")]
    Tar {
        /// The last entry that was read.
        after: String,
        /// What is wrong.
        source: TarError,
    },
    /// An entry that a layer must not have.
    #[error("layer entry {path} is refused: {problem}")]
    Entry {
        /// Its name.
        path: String,
        /// What is wrong.
        problem: Problem,
    },
    /// More than the limits allow.
    #[error("the layer is refused: it has more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// Compressed so well that it must be meant to fill disks.
    #[error(
        "the layer is refused: {unpacked} bytes come out of {packed}, at most {ratio} times as many are allowed"
    )]
    Ratio {
        /// Bytes after decompression.
        unpacked: u64,
        /// Bytes before.
        packed: u64,
        /// The limit.
        ratio: u64,
    },
    /// The image cannot be written.
    #[error(transparent)]
    Write(WriteError),
}

/// Why an entry is refused.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It points out of where it is.
    #[error("its path contains `..`")]
    ParentComponent,
    /// No path has a zero byte.
    #[error("its path or link target contains a zero byte")]
    ZeroByte,
    /// A name in it is too long.
    #[error("a name in its path has {0} bytes, at most 255 are possible")]
    NameLength(usize),
    /// All of it is too long.
    #[error("its path has more than 4095 bytes")]
    PathLength,
    /// Symbolic links lead nowhere.
    #[error("its path leads through more than 40 symbolic links")]
    SymlinkLoop,
    /// It is below something that has nothing below it.
    #[error("{0} in its path is not a directory")]
    NotADirectory(String),
    /// Only a directory can be the root.
    #[error("the root directory cannot be replaced")]
    Root,
    /// Hard links reach files of the same layer only.
    #[error("it is a hard link to {0}, which this layer does not contain")]
    LinkTarget(String),
    /// Directories have one name.
    #[error("it is a hard link to {0}, which is a directory")]
    LinkToDirectory(String),
    /// Too many names for one file.
    #[error("the file it links to has {0} names already")]
    TooManyLinks(u32),
    /// A type that layers do not have.
    #[error("tar entries of type {0} cannot be part of a layer")]
    Kind(String),
    /// A whiteout for nothing.
    #[error("it marks something as deleted and does not say what")]
    Whiteout,
    /// Extended attributes that are too large.
    #[error("its extended attributes have {0} bytes, at most {1} are allowed")]
    Xattrs(usize, usize),
    /// A file that is too large.
    #[error("it has {0} bytes, at most {1} are allowed")]
    FileSize(u64, u64),
    /// The file system cannot hold it.
    #[error("{0}")]
    Write(WriteError),
}

/// A path for people: in quotes, what is not printable escaped, not endless.
pub fn show(path: &[u8]) -> String {
    const MOST: usize = 300;
    if path.len() > MOST {
        return format!("{:?}…", String::from_utf8_lossy(&path[..MOST]));
    }
    format!("{:?}", String::from_utf8_lossy(path))
}
