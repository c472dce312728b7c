//! Layers on top of each other, by overlayfs' rules, with a note of what each one does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::{Change, What};
use crate::image::erofs::{FileType, Inode, ReadError, Reader};

/// What is at a path of the merged view.
#[derive(Debug, Clone)]
pub struct Node {
    /// The index of the layer whose version is seen.
    pub layer: usize,
    /// That version.
    pub inode: Inode,
}

/// The merged view: paths without the `/` at their beginning; the root itself is not in it.
pub type Merged = BTreeMap<Vec<u8>, Node>;

/// What one layer does.
#[derive(Debug, Default)]
pub struct Applied {
    /// Path by path, in order.
    pub changes: Vec<Change>,
    /// Bytes of its files, each counted once however many names it has.
    pub size: u64,
    /// Files of lower layers that it deletes or hides in opaque directories.
    pub hidden: usize,
}

/// Puts a layer on top of what is there; `implicit` are the directories, from the root on, that
/// its archive does not describe.
pub fn apply(
    merged: &mut Merged,
    readers: &[Reader],
    index: usize,
    implicit: &BTreeSet<Vec<u8>>,
) -> Result<Applied, ReadError> {
    let reader = &readers[index];
    let mut applied = Applied::default();
    let mut counted = BTreeSet::new();
    let root = reader.root()?;
    if is_opaque(reader, &root)? {
        applied.hidden += merged.len();
        merged.clear();
    }
    let mut waiting = vec![(Vec::new(), root)];
    while let Some((directory, inode)) = waiting.pop() {
        for entry in reader.read_dir(&inode)? {
            let inode = reader.inode(entry.nid)?;
            let path = join(&directory, &entry.name);
            if inode.is_whiteout() {
                let hides = remove(merged, &path);
                applied.hidden += hides;
                applied
                    .changes
                    .push(change(path, What::Hidden, &inode, 0, hides));
                continue;
            }
            let first = counted.insert(inode.nid);
            let size = match inode.file_type {
                FileType::Regular if first => inode.size,
                _ => 0,
            };
            applied.size += size;
            let is_directory = inode.file_type == FileType::Directory;
            let opaque = is_directory && is_opaque(reader, &inode)?;
            let below = merged.get(&path).cloned();
            let merges = is_directory && below.as_ref().is_some_and(is_dir);
            let mut hides = 0;
            if opaque || !merges {
                hides = remove_below(merged, &path);
            }
            if opaque {
                applied.hidden += hides;
            }
            let note = match &below {
                None => Some(What::Added),
                Some(_) if opaque && hides > 0 => Some(What::Changed),
                // A directory that a layer passes through on the way to a file.
                Some(below)
                    if merges && (implicit.contains(&path) || alike(&below.inode, &inode)) =>
                {
                    None
                }
                Some(_) => Some(What::Changed),
            };
            if let Some(what) = note {
                let mut change = change(path.clone(), what, &inode, size, hides);
                change.opaque = opaque;
                change.same = match &below {
                    Some(below) => same_content(readers, below, index, &inode)?,
                    None => false,
                };
                change.hides += usize::from(below.is_some() && !merges);
                applied.changes.push(change);
            }
            // What a layer only passes through stays as it was.
            if note.is_some() {
                let inode = inode.clone();
                merged.insert(
                    path.clone(),
                    Node {
                        layer: index,
                        inode,
                    },
                );
            }
            if is_directory {
                waiting.push((path, inode));
            }
        }
    }
    applied.changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(applied)
}

fn change(path: Vec<u8>, what: What, inode: &Inode, size: u64, hides: usize) -> Change {
    let is_there = what != What::Hidden;
    Change {
        path,
        what,
        file: is_there.then_some(inode.file_type),
        size,
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        opaque: false,
        same: false,
        hides,
        seen: false,
        nid: inode.nid,
    }
}

/// `directory/name`.
fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory.is_empty() {
        true => name.to_vec(),
        false => [directory, b"/", name].concat(),
    }
}

/// Takes away what is at a path and below; how much that was.
fn remove(merged: &mut Merged, path: &[u8]) -> usize {
    remove_below(merged, path) + usize::from(merged.remove(path).is_some())
}

fn remove_below(merged: &mut Merged, path: &[u8]) -> usize {
    let paths: Vec<Vec<u8>> = below(merged, path).map(|(path, _)| path.clone()).collect();
    for path in &paths {
        merged.remove(path);
    }
    paths.len()
}

/// What is below a directory.
pub fn below<'a>(merged: &'a Merged, path: &[u8]) -> impl Iterator<Item = (&'a Vec<u8>, &'a Node)> {
    // '0' follows '/'.
    let (from, to) = ([path, b"/"].concat(), [path, b"0"].concat());
    merged.range((Bound::Excluded(from), Bound::Excluded(to)))
}

fn is_dir(node: &Node) -> bool {
    node.inode.file_type == FileType::Directory
}

/// Whether a directory's description is the same; its time says nothing, it changes with every
/// file that comes or goes.
fn alike(a: &Inode, b: &Inode) -> bool {
    (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid)
}

/// Whether two versions of a file have the same content.
fn same_content(
    readers: &[Reader],
    below: &Node,
    index: usize,
    inode: &Inode,
) -> Result<bool, ReadError> {
    if below.inode.file_type != inode.file_type || below.inode.size != inode.size {
        return Ok(false);
    }
    match inode.file_type {
        FileType::Regular | FileType::Symlink => {}
        FileType::Directory => return Ok(false),
        _ => return Ok(below.inode.device() == inode.device()),
    }
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut at = 0;
    while at < inode.size {
        let count = readers[below.layer].read_at(&below.inode, &mut left, at)?;
        let other = readers[index].read_at(inode, &mut right, at)?;
        if count == 0 || left[..count] != right[..other] {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}

/// Whether a directory shows nothing of the layers below.
fn is_opaque(reader: &Reader, inode: &Inode) -> Result<bool, ReadError> {
    let xattrs = reader.xattrs(inode)?;
    let mark = xattrs.get(&b"trusted.overlay.opaque"[..]);
    Ok(mark.is_some_and(|value| value == b"y"))
}

/// Bytes of each layer's files that are seen, each file counted once.
pub fn seen_bytes(merged: &Merged, layers: usize) -> Vec<u64> {
    let mut bytes = vec![0; layers];
    let mut counted = BTreeSet::new();
    for node in merged.values() {
        let regular = node.inode.file_type == FileType::Regular;
        if regular && counted.insert((node.layer, node.inode.nid)) {
            bytes[node.layer] += node.inode.size;
        }
    }
    bytes
}
