//! Corrects directories that an upper layer has only because something is in them.
//!
//! A layer's archive may hold `usr/bin/x` without entries for `usr` and `usr/bin`. Its image
//! needs both directories, and in a stack of layers overlayfs takes a directory's owner, mode,
//! time and attributes from the uppermost layer that has it. Where those are made up, the ones
//! of the layer below are right: [`fixup_layer`] collects them in one tiny layer for the top.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::image::digest::Digest;
use crate::image::erofs::{
    FileType, Inode, Metadata, ReadError, Reader, Timestamp, Tree, WriteError, Writer,
};

/// A layer of the stack.
#[derive(Debug, Clone, Copy)]
pub struct StackedLayer<'a> {
    /// Its image.
    pub reader: &'a Reader,
    /// Directories in it that its archive has no entry for.
    pub implicit_dirs: &'a [PathBuf],
}

/// Why no fixup layer can be made.
#[derive(Debug, thiserror::Error)]
pub enum FixupError {
    /// A layer cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The layer cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Finds the directories that a stack of `layers`, the lowest first, would show with metadata
/// that no archive has, and what they should have.
///
/// Paths have no leading slash; parents come before what is in them. Every ancestor of a
/// directory that needs it is there as well. The time of `/` alone is no reason for anything.
pub fn fixup_dirs(layers: &[StackedLayer<'_>]) -> Result<BTreeMap<Vec<u8>, Metadata>, ReadError> {
    let stack = Stack::new(layers);
    let mut wanted = BTreeSet::new();
    for path in stack.implicit.iter().flatten() {
        wanted.insert(path.clone());
    }
    let mut known: BTreeMap<Vec<u8>, Vec<(usize, Inode)>> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for path in wanted {
        let dirs = stack.merged(&path, &mut known)?;
        let (Some((top, top_inode)), Some((from, inode))) = (
            dirs.first(),
            dirs.iter()
                .find(|(layer, _)| !stack.implicit[*layer].contains(&path)),
        ) else {
            continue;
        };
        if top == from {
            continue;
        }
        let right = stack.metadata(*from, inode)?;
        let mut shown = stack.metadata(*top, top_inode)?;
        if path.is_empty() {
            shown.mtime = right.mtime;
        }
        if right != shown {
            found.insert(path.clone(), right);
        }
    }
    stack.add_ancestors(&mut found, &mut known)?;
    Ok(found)
}

/// Writes the layer to put on top of `layers`, the lowest first, into `work`; `None` if they
/// need none. Otherwise the size of its image comes back.
pub fn fixup_layer(layers: &[StackedLayer<'_>], work: &File) -> Result<Option<u64>, FixupError> {
    let dirs = fixup_dirs(layers)?;
    if dirs.is_empty() {
        return Ok(None);
    }
    let mut writer = Writer::new(work)?;
    let mut ids = BTreeMap::from([(Vec::new(), Tree::ROOT)]);
    for (path, metadata) in dirs {
        if path.is_empty() {
            *writer.tree_mut().metadata_mut(Tree::ROOT) = metadata;
            continue;
        }
        let (parent, name) = split_last(&path);
        let parent = ids.get(parent).copied().unwrap_or(Tree::ROOT);
        let id = writer.tree_mut().make_dir(parent, name, metadata);
        ids.insert(path, id);
    }
    let mut hasher = Sha256::new_with_prefix("directories above");
    for layer in layers {
        hasher.update(layer.reader.uuid());
    }
    Ok(Some(
        writer.finish(super::uuid(&Digest::from_hasher(hasher)))?,
    ))
}

/// Layers, the uppermost first, and the paths of their implicit directories.
struct Stack<'a> {
    readers: Vec<&'a Reader>,
    implicit: Vec<BTreeSet<Vec<u8>>>,
}

impl<'a> Stack<'a> {
    fn new(layers: &[StackedLayer<'a>]) -> Self {
        let implicit = |layer: &StackedLayer<'_>| {
            let paths = layer
                .implicit_dirs
                .iter()
                .map(|path| path.as_os_str().as_bytes());
            paths
                .map(|path| path.strip_prefix(b"/").unwrap_or(path).to_vec())
                .collect()
        };
        Self {
            readers: layers.iter().rev().map(|layer| layer.reader).collect(),
            implicit: layers.iter().rev().map(implicit).collect(),
        }
    }

    /// The directories that overlayfs merges at `path`, the uppermost first; none if there is
    /// no directory.
    fn merged(
        &self,
        path: &[u8],
        known: &mut BTreeMap<Vec<u8>, Vec<(usize, Inode)>>,
    ) -> Result<Vec<(usize, Inode)>, ReadError> {
        if let Some(dirs) = known.get(path) {
            return Ok(dirs.clone());
        }
        let mut dirs = Vec::new();
        if path.is_empty() {
            for (layer, reader) in self.readers.iter().enumerate() {
                let root = reader.root()?;
                let opaque = is_opaque(reader, &root)?;
                dirs.push((layer, root));
                if opaque {
                    break;
                }
            }
        } else {
            let (parent, name) = split_last(path);
            for (layer, parent) in self.merged(parent, known)? {
                let reader = self.readers[layer];
                let Some(entry) = reader.child(&parent, name)? else {
                    continue;
                };
                if entry.file_type != FileType::Directory {
                    break;
                }
                let dir = reader.inode(entry.nid)?;
                let opaque = is_opaque(reader, &dir)?;
                dirs.push((layer, dir));
                if opaque {
                    break;
                }
            }
        }
        known.insert(path.to_vec(), dirs.clone());
        Ok(dirs)
    }

    fn metadata(&self, layer: usize, inode: &Inode) -> Result<Metadata, ReadError> {
        let mut xattrs = self.readers[layer].xattrs(inode)?;
        xattrs.retain(|name, _| !name.starts_with(b"trusted.overlay."));
        let Inode {
            mode,
            uid,
            gid,
            mtime,
            ..
        } = *inode;
        Ok(Metadata {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        })
    }

    /// Adds what is above the directories found, as the stack should show it.
    fn add_ancestors(
        &self,
        found: &mut BTreeMap<Vec<u8>, Metadata>,
        known: &mut BTreeMap<Vec<u8>, Vec<(usize, Inode)>>,
    ) -> Result<(), ReadError> {
        let paths: Vec<_> = found.keys().cloned().collect();
        for path in paths {
            let mut rest = &path[..];
            while !rest.is_empty() {
                rest = split_last(rest).0;
                if found.contains_key(rest) {
                    continue;
                }
                let dirs = self.merged(rest, known)?;
                let explicit = dirs.iter().find(|(l, _)| !self.implicit[*l].contains(rest));
                let metadata = match explicit.or(dirs.first()) {
                    Some((layer, inode)) => self.metadata(*layer, inode)?,
                    None => Metadata {
                        mode: 0o755,
                        mtime: Timestamp::default(),
                        ..Metadata::default()
                    },
                };
                found.insert(rest.to_vec(), metadata);
            }
        }
        Ok(())
    }
}

fn is_opaque(reader: &Reader, dir: &Inode) -> Result<bool, ReadError> {
    Ok(reader
        .xattrs(dir)?
        .get(&b"trusted.overlay.opaque"[..])
        .is_some_and(|value| value == b"y"))
}

/// The parent's path and the last name.
fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}
