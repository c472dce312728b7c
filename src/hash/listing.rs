//! What is hashed: every path with what counts of it.

use std::collections::BTreeMap;
use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::image::digest::Digest;
use crate::layers::shown;

/// Kinds of files, and the marks of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with content.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device.
    Device,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A layer's mark that a path is gone.
    Whiteout,
    /// A directory of a layer that hides what lower layers have in it.
    Opaque,
}

impl Kind {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Link => "link",
            Self::Device => "device",
            Self::Pipe => "pipe",
            Self::Socket => "socket",
            Self::Whiteout => "whiteout",
            Self::Opaque => "opaque",
        }
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What kind of file.
    pub kind: Kind,
    /// Digest of a file's content, a link's target, a device's numbers.
    pub content: Digest,
    /// SHA-1 of a file's content, for the recipe.
    pub sha1: [u8; 20],
    /// Bytes of content.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds of the last change.
    pub modified: (i64, u32),
}

/// Everything below a directory, by path without a slash at its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing(pub BTreeMap<Vec<u8>, Entry>);

impl Listing {
    /// The text whose digest the content hash is: a line per path, in the order of the bytes.
    pub fn text(&self) -> String {
        let line = |(path, entry): (&Vec<u8>, &Entry)| {
            // `\` stands before itself, so that no two names look the same.
            let name = shown(&path.as_slice().replace_all(b'\\', b"\\\\"));
            format!("{} {} {name}\n", entry.kind.name(), entry.content.hex())
        };
        self.0.iter().map(line).collect()
    }

    /// The content hash.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text())
    }

    /// Files with content, and their bytes.
    pub fn files(&self) -> (usize, u64) {
        let files = self.0.values().filter(|entry| entry.kind == Kind::File);
        files.fold((0, 0), |(count, bytes), entry| {
            (count + 1, bytes + entry.size)
        })
    }
}

trait ReplaceAll {
    fn replace_all(&self, byte: u8, with: &[u8]) -> Vec<u8>;
}

impl ReplaceAll for [u8] {
    fn replace_all(&self, byte: u8, with: &[u8]) -> Vec<u8> {
        self.split(|b| *b == byte).collect::<Vec<_>>().join(with)
    }
}

/// Both digests of what is read, and its length.
pub fn digests(mut input: impl Read) -> io::Result<(Digest, [u8; 20], u64)> {
    let (mut sha256, mut sha1) = (Sha256::new(), Sha1::new());
    let mut buffer = vec![0; 128 << 10];
    let mut length = 0;
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            return Ok((Digest::from_hasher(sha256), sha1.finalize().into(), length));
        }
        sha256.update(&buffer[..count]);
        sha1.update(&buffer[..count]);
        length += count as u64;
    }
}
