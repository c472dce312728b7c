//! The files of an image as a container would see them, read from its layers without a guest.
//!
//! Layers are EROFS files that hull made itself from archives; reading them here needs no mount
//! and no kernel. What is on top hides what is below by overlayfs' rules.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::erofs::{FileType, Inode, ReadError, Reader, Xattrs};
use super::error::ImageError;
use super::local::Image;
use crate::store::{Store, StoreError};

/// The most that is read into memory of one file.
const MAX_SMALL: u64 = 16 << 20;

/// An image's merged files.
#[derive(Debug)]
pub struct View {
    /// The topmost first.
    layers: Vec<Reader>,
    /// What tells the layers from all others.
    ids: Vec<String>,
}

/// Layers and inodes, the topmost first.
type Places = Vec<(usize, Inode)>;

/// A file in a [`View`].
#[derive(Debug, Clone)]
pub struct Node {
    /// Several for a directory that layers merge in. A
    /// root without layers has none.
    places: Places,
}

impl Node {
    /// What the topmost layer says about it; an empty image's root has nothing to say.
    pub fn inode(&self) -> Option<&Inode> {
        self.places.first().map(|(_, inode)| inode)
    }

    /// What kind of file it is.
    pub fn file_type(&self) -> FileType {
        self.inode()
            .map_or(FileType::Directory, |inode| inode.file_type)
    }

    /// What tells it from other files of the same view.
    pub fn identity(&self) -> Option<(usize, u64)> {
        self.places
            .first()
            .map(|(layer, inode)| (*layer, inode.nid))
    }
}

impl View {
    /// The files of an image.
    pub fn open(store: &Store, image: &Image) -> Result<Self, ImageError> {
        let (mut layers, mut ids) = (Vec::new(), Vec::new());
        for path in image.layer_files(store)?.iter().rev() {
            let file = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
            let reader = Reader::open(file).map_err(|error| failed(&error))?;
            layers.push(reader);
            // Files of layers are called after what is in them.
            let name = path.file_name().unwrap_or_default();
            ids.push(name.to_string_lossy().into_owned());
        }
        Ok(Self { layers, ids })
    }

    /// What tells a file from all others, in other views too: its layer and its number.
    pub fn origin(&self, node: &Node) -> Option<(&str, u64)> {
        let (layer, inode) = node.places.first()?;
        Some((self.ids.get(*layer)?, inode.nid))
    }

    /// The files of layers, the lowest first.
    #[cfg(test)]
    pub(crate) fn of(layers: Vec<Reader>) -> Self {
        let ids = (0..layers.len()).map(|number| number.to_string()).collect();
        let layers = layers.into_iter().rev().collect();
        Self { layers, ids }
    }

    /// No files at all.
    pub fn empty() -> Self {
        Self {
            layers: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// The root directory.
    pub fn root(&self) -> Result<Node, ImageError> {
        let mut places = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let root = layer.root().map_err(|error| failed(&error))?;
            let opaque = self.is_opaque(number, &root)?;
            places.push((number, root));
            if opaque {
                break;
            }
        }
        Ok(Node { places })
    }

    /// The file called `name` in a directory.
    pub fn child(&self, directory: &Node, name: &[u8]) -> Result<Option<Node>, ImageError> {
        if name.is_empty() || name.contains(&b'/') {
            return Ok(None);
        }
        let mut places = Vec::new();
        for (number, inode) in &directory.places {
            let found = self.layers[*number].child(inode, name);
            let Some(entry) = found.map_err(|error| failed(&error))? else {
                continue;
            };
            if self.add(&mut places, *number, entry.nid)? {
                break;
            }
        }
        Ok((!places.is_empty()).then_some(Node { places }))
    }

    /// Everything in a directory, by name.
    pub fn children(&self, directory: &Node) -> Result<BTreeMap<Vec<u8>, Node>, ImageError> {
        // What of a name is settled: nothing below counts any more.
        let mut found: BTreeMap<Vec<u8>, (Places, bool)> = BTreeMap::new();
        for (number, inode) in &directory.places {
            let entries = self.layers[*number].read_dir(inode);
            for entry in entries.map_err(|error| failed(&error))? {
                let (places, settled) = found.entry(entry.name).or_default();
                if !*settled {
                    *settled = self.add(places, *number, entry.nid)?;
                }
            }
        }
        let whole = found
            .into_iter()
            .filter(|(_, (places, _))| !places.is_empty());
        Ok(whole
            .map(|(name, (places, _))| (name, Node { places }))
            .collect())
    }

    /// Adds what one layer has at a place; true when it hides what is below.
    fn add(&self, places: &mut Places, number: usize, nid: u64) -> Result<bool, ImageError> {
        let inode = self.layers[number]
            .inode(nid)
            .map_err(|error| failed(&error))?;
        if inode.is_whiteout() {
            return Ok(true);
        }
        if inode.file_type != FileType::Directory {
            // Below a directory of another layer it does not show.
            if places.is_empty() {
                places.push((number, inode));
            }
            return Ok(true);
        }
        let opaque = self.is_opaque(number, &inode)?;
        places.push((number, inode));
        Ok(opaque)
    }

    fn is_opaque(&self, number: usize, inode: &Inode) -> Result<bool, ImageError> {
        let xattrs = self.layers[number].xattrs(inode);
        let xattrs = xattrs.map_err(|error| failed(&error))?;
        let mark = xattrs.get(&b"trusted.overlay.opaque"[..]);
        Ok(mark.is_some_and(|value| value == b"y"))
    }

    /// Where a symbolic link leads.
    pub fn read_link(&self, node: &Node) -> Result<Vec<u8>, ImageError> {
        let Some((number, inode)) = node.places.first() else {
            return Ok(Vec::new());
        };
        let target = self.layers[*number].read_link(inode);
        target.map_err(|error| failed(&error))
    }

    /// A file's extended attributes, without overlayfs' own.
    pub fn xattrs(&self, node: &Node) -> Result<Xattrs, ImageError> {
        let Some((number, inode)) = node.places.first() else {
            return Ok(Xattrs::new());
        };
        let xattrs = self.layers[*number].xattrs(inode);
        let mut xattrs = xattrs.map_err(|error| failed(&error))?;
        xattrs.retain(|name, _| !name.starts_with(b"trusted.overlay."));
        Ok(xattrs)
    }

    /// The content of a file that ought to be small, such as `/etc/passwd`.
    pub fn read_small(self: &Arc<Self>, node: &Node) -> Result<Vec<u8>, ImageError> {
        let mut content = Vec::new();
        let read = self.content(node).take(MAX_SMALL).read_to_end(&mut content);
        read.map_err(|error| ImageError::io("read a file of the image", error))?;
        Ok(content)
    }

    /// The content of a regular file, as it is read.
    pub fn content(self: &Arc<Self>, node: &Node) -> Content {
        Content {
            view: Arc::clone(self),
            node: node.clone(),
            at: 0,
        }
    }
}

fn failed(error: &ReadError) -> ImageError {
    ImageError::document("layer", error)
}

/// Reads one file.
#[derive(Debug)]
pub struct Content {
    view: Arc<View>,
    node: Node,
    at: u64,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((number, inode)) = self.node.places.first() else {
            return Ok(0);
        };
        let read = self.view.layers[*number].read_at(inode, buffer, self.at);
        let count = read.map_err(io::Error::other)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
