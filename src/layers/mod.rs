//! Images and containers as stacks of layers: what each layer adds, changes and hides, which
//! layer a path comes from, what lies there unseen, and what images have in common.
//!
//! `open` gets the layers, `merge` lays them on top of each other by overlayfs' rules, `path`
//! tells the story of one path, `outline` sums files up for a terminal. Layers are read by hull
//! itself, never mounted on the host; a container's writable layer comes from its guest as an
//! archive and is read like any other.

mod merge;
mod open;
mod outline;
mod path;
mod shown;

use serde::{Serialize, Serializer};

use crate::container::files::FilesError;
use crate::image::ImageError;
use crate::image::digest::Digest;
use crate::image::erofs::{FileType, ReadError};
use crate::store::StoreError;

pub use open::{Open, name_of, open_container, open_image, outlines};
pub use outline::{Line, outline};
pub use path::{Content, Version, versions};
pub use shown::shown;

/// Why layers cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The container's files cannot be had.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A layer's file is broken.
    #[error("layer {layer} cannot be read: {cause}")]
    Layer {
        /// Its digest, shortened.
        layer: String,
        /// What is wrong.
        cause: ReadError,
    },
    /// The image that the container is made from was removed by force.
    #[error("the image of container {0} is gone, so its layers cannot be shown")]
    NoImage(String),
    /// No layer has anything there.
    #[error("{path}: no layer of {name} has it")]
    NoSuchPath {
        /// What was asked for.
        path: String,
        /// In which image or container.
        name: String,
    },
    /// Links that lead in circles.
    #[error("{0}: too many symbolic links on the way")]
    Links(String),
}

/// An image, or a container with its writable layer, as a stack.
#[derive(Debug, Clone, Serialize)]
pub struct Stack {
    /// What it was asked for by.
    pub name: String,
    /// Of the image.
    pub id: Digest,
    /// The container whose writable layer lies on top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What it runs on.
    pub platform: String,
    /// Bytes of the files in all layers.
    pub size: u64,
    /// Bytes of files that no container sees, because a layer above hides them.
    pub wasted: u64,
    /// Files, directories and links that a container sees.
    pub visible: usize,
    /// The layers, bottom first.
    pub layers: Vec<Layer>,
    /// Other images that have some of these layers.
    pub shared: Vec<Sharing>,
}

/// An image among others: which layers it has, and how large they are.
#[derive(Debug, Clone, Serialize)]
pub struct Outline {
    /// Its id.
    pub id: Digest,
    /// Its names.
    pub names: Vec<String>,
    /// What it runs on.
    pub platform: String,
    /// Bytes of the files in all layers.
    pub size: u64,
    /// The layers, bottom first.
    pub layers: Vec<Band>,
}

/// A layer of an [`Outline`].
#[derive(Debug, Clone, Serialize)]
pub struct Band {
    /// The digest of its archive.
    pub digest: Digest,
    /// Bytes of the files in it.
    pub size: u64,
}

/// What another image has in common with this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sharing {
    /// Its name.
    pub image: String,
    /// Layers that both have.
    pub layers: usize,
    /// Bytes of the files in those, which are stored once.
    pub size: u64,
}

/// One layer of a [`Stack`].
#[derive(Debug, Clone, Serialize)]
pub struct Layer {
    /// Its place, from 1 at the bottom.
    pub number: usize,
    /// The digest of its archive (its diff-id); none for a container's writable layer.
    pub digest: Option<Digest>,
    /// The digest of what was downloaded.
    pub blob: Option<Digest>,
    /// Bytes that were downloaded.
    pub compressed: Option<u64>,
    /// Bytes of the files in it.
    pub size: u64,
    /// Of those, how many no container sees.
    pub wasted: u64,
    /// The step of the Dockerfile that made it, as the image's history has it.
    pub step: String,
    /// When.
    pub created: Option<String>,
    /// The steps after it, up to the next layer, that changed no file.
    pub settings: Vec<String>,
    /// Other images that have it too.
    pub images: Vec<String>,
    /// Paths that it adds.
    pub added: usize,
    /// Paths of lower layers that it puts something else at.
    pub changed: usize,
    /// Files of lower layers that it hides: deleted ones and what is in opaque directories.
    pub hidden: usize,
    /// All of it, by path.
    pub changes: Vec<Change>,
}

/// What a layer does to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// There was nothing.
    Added,
    /// There was something else.
    Changed,
    /// It is gone: a whiteout.
    Hidden,
}

/// One path of a layer.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// Without the `/` at its beginning, as people can read it.
    #[serde(serialize_with = "as_text")]
    pub path: Vec<u8>,
    /// What happens there.
    pub what: What,
    /// What kind of file the layer has there; none for what is hidden.
    #[serde(serialize_with = "kind", skip_serializing_if = "Option::is_none")]
    pub file: Option<FileType>,
    /// Bytes of it; 0 for further names of a file that is listed already.
    pub size: u64,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// A directory of which only what this layer and those above have is seen.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
    /// The content is that of the file below: only owner, permissions or times are other.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub same: bool,
    /// Files and directories of lower layers that it hides or replaces.
    #[serde(skip_serializing_if = "is_zero")]
    pub hides: usize,
    /// A container sees this layer's version.
    pub seen: bool,
    /// The inode in the layer.
    #[serde(skip)]
    pub(crate) nid: u64,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn as_text<S: Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown(path))
}

fn kind<S: Serializer>(file: &Option<FileType>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(file.map_or("", kind_name))
}

/// A kind of file in a word.
pub fn kind_name(file: FileType) -> &'static str {
    match file {
        FileType::Regular => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "link",
        FileType::CharDevice | FileType::BlockDevice => "device",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
    }
}

#[cfg(test)]
mod tests;
