//! Hashes of directories, layers and images that say whether two hold the same files, and why
//! two do not.
//!
//! The *content hash* is that of a text with one line per path: its kind, the digest of its
//! content, its name. Times, owners and permissions are not in it, so that two people who made
//! the same files get the same hash. `directory` and `layer` collect what is hashed, `listing`
//! hashes it, `recipe` does what `find | sha1sum | sort` does, `compare` explains.

mod compare;
mod directory;
mod layer;
mod listing;
mod recipe;
mod subject;

use std::io;
use std::path::PathBuf;

use crate::image::ImageError;
use crate::image::erofs::ReadError;
use crate::layers::LayersError;
use crate::store::StoreError;

pub use compare::{Comparison, Difference, compare};
pub use listing::{Entry, Kind, Listing};
pub use recipe::recipe;
pub use subject::{Source, Subject, open};

/// Why something cannot be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// A file of the host cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A layer's file is broken.
    #[error("layer {layer} cannot be read: {cause}")]
    Layer {
        /// Its digest, shortened.
        layer: String,
        /// What is wrong.
        cause: ReadError,
    },
    /// Neither a path, an image nor a layer.
    #[error(
        "{0} is no file or directory, no image and no layer that is here; a path may begin with ./"
    )]
    NotFound(String),
    /// Several layers begin like that.
    #[error("layer {0:?} is ambiguous, give more digits")]
    Ambiguous(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image's layers cannot be put together.
    #[error(transparent)]
    Layers(#[from] LayersError),
}

#[cfg(test)]
mod tests;
