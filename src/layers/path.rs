//! The story of one path: every version of it in a stack, and the one that is seen.

use std::io::Read;

use serde::Serialize;

use super::merge::Merged;
use super::{Change, LayersError, Open, What, kind_name, shown};
use crate::image::digest::Digest;
use crate::image::erofs::{FileType, Inode, ReadError, Reader};

/// The most symbolic links on the way to a path, as Linux has it.
const MAX_LINKS: usize = 40;

/// What one layer has to do with a path.
#[derive(Debug, Clone, Serialize)]
pub struct Version {
    /// The layer's place, from 1 at the bottom.
    pub layer: usize,
    /// What it does.
    pub what: What,
    /// Through which directory, where not at the path itself: one that is deleted, replaced or
    /// opaque there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// What kind of file it has there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<&'static str>,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The digest of a file's content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
    /// Where a symbolic link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// It is what a container sees.
    pub seen: bool,
}

/// What each layer does to a path, bottom first, and the path itself with the symbolic links on
/// the way to it followed.
pub fn versions(open: &Open, path: &str) -> Result<(String, Vec<Version>), LayersError> {
    let resolved = resolve(open, path)?;
    let mut versions: Vec<Version> = Vec::new();
    let mut there = false;
    for (index, layer) in open.stack.layers.iter().enumerate() {
        let own = layer
            .changes
            .binary_search_by(|change| change.path.cmp(&resolved));
        if let Ok(at) = own {
            let change = &layer.changes[at];
            there = change.what != What::Hidden;
            versions.push(version(open, index, change)?);
        } else if there && let Some(change) = covering(&layer.changes, &resolved) {
            there = false;
            let mut version = version(open, index, change)?;
            version.what = What::Hidden;
            version.through = Some(format!("/{}", shown(&change.path)));
            (version.file, version.seen, version.size) = (None, false, 0);
            (version.content, version.target) = (None, None);
            versions.push(version);
        }
    }
    let shown_path = format!("/{}", shown(&resolved));
    if versions.is_empty() {
        return Err(LayersError::NoSuchPath {
            path: shown_path,
            name: open.stack.name.clone(),
        });
    }
    Ok((shown_path, versions))
}

/// The change of a directory above the path through which what was there is gone.
fn covering<'a>(changes: &'a [Change], path: &[u8]) -> Option<&'a Change> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let above = ends.map(|(end, _)| &path[..end]);
    let mut found = above.filter_map(|above| {
        let at = changes.binary_search_by(|change| change.path.as_slice().cmp(above));
        at.ok().map(|at| &changes[at])
    });
    found.find(|change| change.opaque || change.file != Some(FileType::Directory))
}

fn version(open: &Open, index: usize, change: &Change) -> Result<Version, LayersError> {
    let reader = &open.readers[index];
    let failed = |cause| LayersError::Layer {
        layer: format!("{}", index + 1),
        cause,
    };
    let inode = reader.inode(change.nid).map_err(failed)?;
    let (mut content, mut target) = (None, None);
    match change.file {
        Some(FileType::Regular) => content = Some(digest(reader, &inode).map_err(failed)?),
        Some(FileType::Symlink) => {
            target = Some(shown(&reader.read_link(&inode).map_err(failed)?));
        }
        _ => {}
    }
    Ok(Version {
        layer: index + 1,
        what: change.what,
        through: None,
        file: change.file.map(kind_name),
        size: if change.file.is_some() { inode.size } else { 0 },
        mode: change.mode,
        uid: change.uid,
        gid: change.gid,
        content,
        target,
        seen: change.seen,
    })
}

/// The digest of a file's content.
pub fn digest(reader: &Reader, inode: &Inode) -> Result<Digest, ReadError> {
    let content = Content {
        reader,
        inode,
        at: 0,
    };
    Digest::of_reader(content)
        .map(|(digest, _)| digest)
        .map_err(ReadError::Io)
}

/// A file of a layer, as it is read.
#[derive(Debug)]
pub struct Content<'a> {
    /// The layer.
    pub reader: &'a Reader,
    /// The file.
    pub inode: &'a Inode,
    /// Where.
    pub at: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read_at(self.inode, buffer, self.at);
        let count = read.map_err(std::io::Error::other)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A path without `.`, `..` and symbolic links on the way; what it ends with is left as it is.
fn resolve(open: &Open, path: &str) -> Result<Vec<u8>, LayersError> {
    let mut names: Vec<Vec<u8>> = split(path.as_bytes());
    names.reverse();
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(name) = names.pop() {
        if name == b".." {
            done.pop();
            continue;
        }
        done.push(name);
        if names.is_empty() {
            break;
        }
        if let Some(target) = link(open, &open.merged, &done.join(&b'/'))? {
            links += 1;
            if links > MAX_LINKS {
                return Err(LayersError::Links(path.to_owned()));
            }
            done.pop();
            if target.starts_with(b"/") {
                done.clear();
            }
            names.extend(split(&target).into_iter().rev());
        }
    }
    Ok(done.join(&b'/'))
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

fn link(open: &Open, merged: &Merged, path: &[u8]) -> Result<Option<Vec<u8>>, LayersError> {
    let Some(node) = merged.get(path) else {
        return Ok(None);
    };
    if node.inode.file_type != FileType::Symlink {
        return Ok(None);
    }
    let target = open.readers[node.layer].read_link(&node.inode);
    target.map(Some).map_err(|cause| LayersError::Layer {
        layer: format!("{}", node.layer + 1),
        cause,
    })
}
