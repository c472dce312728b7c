//! Entries of an archive as a tree: a context that came over the standard input.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{FileError, Ignore, Meta, Node, Tree, Where};
use crate::build::layer::{Entries, Entry, Kind};
use crate::image::ImageError;
use crate::image::erofs::{FileType, Xattrs};

/// Files by their path.
#[derive(Debug, Default)]
pub struct EntriesTree {
    entries: BTreeMap<Vec<u8>, Entry>,
    ignore: Ignore,
}

impl EntriesTree {
    /// The files of an archive.
    pub fn new(entries: Entries, ignore: Ignore) -> Self {
        Self {
            entries: entries.0,
            ignore,
        }
    }

    /// The same without what these rules leave out.
    pub fn ignoring(self, ignore: Ignore) -> Self {
        Self { ignore, ..self }
    }

    fn entry(&self, node: &Node) -> Option<&Entry> {
        match &node.place {
            Where::Entry(path) => self.entries.get(path),
            _ => None,
        }
    }

    fn node(&self, path: &[u8]) -> Option<Node> {
        let mut entry = self.entries.get(path)?;
        let mut place = path;
        if let Kind::Link(first) = &entry.kind {
            place = first;
            entry = self.entries.get(first)?;
        }
        let (kind, size) = match &entry.kind {
            Kind::File(size, _) => (FileType::Regular, *size),
            Kind::Directory => (FileType::Directory, 0),
            Kind::Symlink(_) => (FileType::Symlink, 0),
            _ => (FileType::Socket, 0),
        };
        if self.ignore.is_ignored(path) && !(kind == FileType::Directory && self.has_wanted(path)) {
            return None;
        }
        Some(Node {
            meta: Meta {
                kind,
                mode: entry.mode,
                uid: 0,
                gid: 0,
                mtime: i64::MAX,
                size,
                device: (0, 0),
                identity: None,
            },
            place: Where::Entry(place.to_vec()),
        })
    }

    fn has_wanted(&self, directory: &[u8]) -> bool {
        let prefix = [directory, b"/"].concat();
        let below = self.entries.range(prefix.clone()..);
        below
            .take_while(|(path, _)| path.starts_with(&prefix))
            .any(|(path, _)| !self.ignore.is_ignored(path))
    }
}

fn path_in(directory: &Node) -> Option<Vec<u8>> {
    match &directory.place {
        Where::Entry(path) if path.is_empty() => Some(Vec::new()),
        Where::Entry(path) => Some([path, &b"/"[..]].concat()),
        _ => None,
    }
}

impl Tree for EntriesTree {
    fn root(&self) -> Result<Node, FileError> {
        Ok(Node {
            meta: Meta::ROOT,
            place: Where::Entry(Vec::new()),
        })
    }

    fn child(&self, directory: &Node, name: &[u8]) -> Result<Option<Node>, FileError> {
        let path = path_in(directory).map(|path| [path.as_slice(), name].concat());
        Ok(path.and_then(|path| self.node(&path)))
    }

    fn children(&self, directory: &Node) -> Result<Vec<(Vec<u8>, Node)>, FileError> {
        let Some(prefix) = path_in(directory) else {
            return Ok(Vec::new());
        };
        let below = self.entries.range(prefix.clone()..);
        let below = below.take_while(|(path, _)| path.starts_with(&prefix));
        let names = below.filter_map(|(path, _)| {
            let name = path.get(prefix.len()..)?;
            (!name.is_empty() && !name.contains(&b'/')).then_some(name)
        });
        let children = names.filter_map(|name| {
            let node = self.node(&[prefix.as_slice(), name].concat())?;
            Some((name.to_vec(), node))
        });
        Ok(children.collect())
    }

    fn link(&self, node: &Node) -> Result<Vec<u8>, FileError> {
        Ok(match self.entry(node).map(|entry| &entry.kind) {
            Some(Kind::Symlink(target)) => target.clone(),
            _ => Vec::new(),
        })
    }

    fn open(&self, node: &Node) -> Result<Box<dyn Read + Send>, FileError> {
        match self.entry(node).map(|entry| &entry.kind) {
            Some(Kind::File(size, content)) => {
                let opened = content
                    .open()
                    .map_err(|e| ImageError::io("read the context", e))?;
                Ok(Box::new(opened.take(*size)))
            }
            _ => Ok(Box::new(io::empty())),
        }
    }

    fn xattrs(&self, node: &Node) -> Result<Xattrs, FileError> {
        if let (FileType::Socket, Where::Entry(path)) = (node.meta.kind, &node.place) {
            let path = String::from_utf8_lossy(path).into_owned();
            return Err(super::ContextError::Special(path).into());
        }
        Ok(Xattrs::new())
    }
}
