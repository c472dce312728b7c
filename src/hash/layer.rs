//! Layers: one alone with its marks, or all of an image as a container sees them.

use std::fs::File;

use super::HashError;
use super::listing::{Entry, Kind, Listing, digests};
use crate::image::digest::Digest;
use crate::image::erofs::{FileType, Inode, ReadError, Reader};
use crate::layers::{Content, Open};
use crate::store::{Store, StoreError};

/// One layer, with whiteouts and opaque directories as what they are.
pub fn read(store: &Store, layer: &Digest) -> Result<Listing, HashError> {
    let path = store.layer_path(layer);
    let file = File::open(&path).map_err(|cause| StoreError::io("open", &path, cause))?;
    let failed = |cause| HashError::Layer {
        layer: layer.short(),
        cause,
    };
    walk(&Reader::open(file).map_err(failed)?).map_err(failed)
}

fn walk(reader: &Reader) -> Result<Listing, ReadError> {
    let mut listing = Listing::default();
    let mut waiting = vec![(Vec::new(), reader.root()?)];
    while let Some((inside, directory)) = waiting.pop() {
        for name in reader.read_dir(&directory)? {
            let inode = reader.inode(name.nid)?;
            let path = match inside.is_empty() {
                true => name.name,
                false => [&inside, &b"/"[..], &name.name].concat(),
            };
            let mut entry = entry(reader, &inode)?;
            if inode.is_whiteout() {
                (entry.kind, entry.content) = (Kind::Whiteout, Digest::of(""));
            }
            if inode.file_type == FileType::Directory {
                let xattrs = reader.xattrs(&inode)?;
                if xattrs.contains_key(&b"trusted.overlay.opaque"[..]) {
                    entry.kind = Kind::Opaque;
                }
                waiting.push((path.clone(), inode));
            }
            listing.0.insert(path, entry);
        }
    }
    Ok(listing)
}

/// What a container of an image sees.
pub fn merged(open: &Open) -> Result<Listing, HashError> {
    let mut listing = Listing::default();
    for (path, reader, inode) in open.files() {
        let entry = entry(reader, inode).map_err(|cause| HashError::Layer {
            layer: format!("of {}", open.stack.name),
            cause,
        })?;
        listing.0.insert(path.to_vec(), entry);
    }
    Ok(listing)
}

fn entry(reader: &Reader, inode: &Inode) -> Result<Entry, ReadError> {
    let (mut sha1, mut size) = ([0; 20], 0);
    let (kind, content) = match inode.file_type {
        FileType::Regular => {
            let content = Content {
                reader,
                inode,
                at: 0,
            };
            let (content, other, length) = digests(content).map_err(ReadError::Io)?;
            (sha1, size) = (other, length);
            (Kind::File, content)
        }
        FileType::Symlink => (Kind::Link, Digest::of(reader.read_link(inode)?)),
        FileType::Directory => (Kind::Directory, Digest::of("")),
        FileType::CharDevice | FileType::BlockDevice => {
            let (major, minor) = inode.device().unwrap_or_default();
            (Kind::Device, Digest::of(format!("{major}:{minor}")))
        }
        FileType::Fifo => (Kind::Pipe, Digest::of("")),
        FileType::Socket => (Kind::Socket, Digest::of("")),
    };
    Ok(Entry {
        kind,
        content,
        sha1,
        size,
        mode: inode.mode.into(),
        owner: (inode.uid, inode.gid),
        modified: (inode.mtime.secs, inode.mtime.nanos),
    })
}
