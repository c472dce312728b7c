//! The files of a layer that the builder makes itself, and their archive: the same files give
//! the same bytes, whoever builds where and when.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use guest_agent::archive::{Member, MemberKind, Packer, Records};

use super::files::{Node, SharedTree};
use crate::image::erofs::Xattrs;

/// A file's content, wherever it is.
#[derive(Debug, Clone)]
pub enum Content {
    /// In a tree.
    Tree(SharedTree, Node),
    /// Here.
    Bytes(Arc<[u8]>),
    /// From an offset of a file on.
    Slice(Arc<File>, u64),
}

/// What an entry of a layer is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A file of so many bytes.
    File(u64, Content),
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// Another name of the entry at this path.
    Link(Vec<u8>),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// An entry of a layer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Entry {
    /// A directory of root's.
    pub fn directory(mtime: i64) -> Self {
        Self {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: Xattrs::new(),
        }
    }
}

/// A layer's entries by path, without leading slashes.
#[derive(Debug, Clone, Default)]
pub struct Entries(pub BTreeMap<Vec<u8>, Entry>);

impl Entries {
    /// Writes the archive.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut packer = Packer::new(out, |_| Ok(Records::new()));
        for (path, entry) in &self.0 {
            let path_of = |bytes: &[u8]| Path::new(OsStr::from_bytes(bytes)).to_owned();
            let name = path_of(path);
            let target = match &entry.kind {
                Kind::Symlink(target) | Kind::Link(target) => path_of(target),
                _ => Path::new("").to_owned(),
            };
            let kind = match &entry.kind {
                Kind::File(size, _) => MemberKind::File(*size),
                Kind::Directory => MemberKind::Directory,
                Kind::Symlink(_) => MemberKind::Symlink(&target),
                Kind::Link(_) => MemberKind::Link(&target),
                Kind::Char(major, minor) => MemberKind::Char(*major, *minor),
                Kind::Block(major, minor) => MemberKind::Block(*major, *minor),
                Kind::Fifo => MemberKind::Fifo,
            };
            let records = entry.xattrs.iter().map(|(name, value)| {
                let name = String::from_utf8_lossy(name);
                (format!("SCHILY.xattr.{name}"), value.clone())
            });
            let member = Member {
                name: &name,
                kind,
                mode: entry.mode,
                uid: entry.uid,
                gid: entry.gid,
                mtime: entry.mtime,
                records: records.collect(),
            };
            match &entry.kind {
                Kind::File(_, content) => packer.member(member, content.open()?)?,
                _ => packer.member(member, io::empty())?,
            }
        }
        packer.finish()
    }
}

impl Content {
    /// Opens it.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Tree(tree, node) => tree.open(node).map_err(io::Error::other)?,
            Self::Bytes(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
            Self::Slice(file, at) => Box::new(Slice {
                file: Arc::clone(file),
                at: *at,
            }),
        })
    }
}

/// Reads a file from a place on, whoever else reads it.
struct Slice {
    file: Arc<File>,
    at: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_sorted_and_complete() {
        let entry = |kind| Entry {
            kind,
            mode: 0o644,
            uid: 3_000_000,
            gid: 2,
            mtime: -5,
            xattrs: Xattrs::from([(b"user.x".to_vec(), b"a\0b".to_vec())]),
        };
        let bytes: Arc<[u8]> = Arc::from(&b"hello"[..]);
        let long = vec![b'n'; 200];
        let entries = Entries(BTreeMap::from([
            (b"d/f".to_vec(), entry(Kind::File(5, Content::Bytes(bytes)))),
            (b"d".to_vec(), entry(Kind::Directory)),
            (long.clone(), entry(Kind::Symlink(b"d/f".to_vec()))),
            (b"e".to_vec(), entry(Kind::Link(b"d/f".to_vec()))),
        ]));
        let (mut one, mut two) = (Vec::new(), Vec::new());
        entries.write(&mut one).unwrap();
        entries.write(&mut two).unwrap();
        assert_eq!(one, two);
        let mut archive = tar::Archive::new(one.as_slice());
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path_bytes().into_owned());
            let records = entry.pax_extensions().unwrap().unwrap();
            let keys: Vec<_> = records
                .map(|r| r.unwrap().key().unwrap().to_owned())
                .collect();
            assert!(keys.contains(&"SCHILY.xattr.user.x".to_owned()), "{keys:?}");
            assert!(keys.contains(&"mtime".to_owned()) && keys.contains(&"uid".to_owned()));
        }
        assert_eq!(
            names,
            [b"d/".to_vec(), b"d/f".to_vec(), b"e".to_vec(), long]
        );
    }
}
