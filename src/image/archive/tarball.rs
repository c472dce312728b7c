//! A tar archive as a set of named pieces that can be read in any order.
//!
//! Nothing is unpacked: entries are found once and then read where they lie, so that no name in
//! an archive ever becomes a path on this machine. Compressed archives and pipes are first
//! written to a temporary file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Component;

use tar::{Archive, EntryType};

use super::open;
use crate::image::error::ImageError;
use crate::store::{Store, StoreError, TempFile};

/// Entries that an archive of images may have.
const ENTRIES: usize = 100_000;
/// Links that may lead to one another.
const LINKS: usize = 16;

/// An archive whose entries are known.
#[derive(Debug)]
pub struct Tarball {
    file: File,
    entries: BTreeMap<String, Entry>,
    _spool: Option<TempFile>,
}

#[derive(Debug, Clone)]
enum Entry {
    File { offset: u64, size: u64 },
    Link(String),
}

impl Tarball {
    /// Finds the entries of the archive that `input` is at the beginning of. At most `limit`
    /// bytes are written to the disk for it.
    pub fn open(store: &Store, mut input: File, limit: u64) -> Result<Self, ImageError> {
        let read = |source| ImageError::io("read the archive", source);
        let is_file = input.metadata().map_err(read)?.is_file();
        let begin = if is_file {
            input.stream_position().map_err(read)?
        } else {
            0
        };
        let (start, stream) = open::peek(&input).map_err(read)?;
        if let Some(program) = open::program(&start) {
            if !is_file {
                let raw = spool(store, stream, limit)?;
                let copy = reopen(&raw)?;
                return Self::spooled(store, program.start(copy)?, limit);
            }
            drop(stream);
            input.seek(io::SeekFrom::Start(begin)).map_err(read)?;
            return Self::spooled(store, program.start(input)?, limit);
        }
        if is_file && !open::is_compressed(&start) {
            drop(stream);
            input.seek(io::SeekFrom::Start(begin)).map_err(read)?;
            return Self::index(input, begin, None);
        }
        let plain = open::plain(&start, stream).map_err(read)?;
        Self::spooled(store, plain, limit)
    }

    fn spooled(store: &Store, input: impl Read, limit: u64) -> Result<Self, ImageError> {
        let temp = spool(store, input, limit)?;
        let file = reopen(&temp)?;
        Self::index(file, 0, Some(temp))
    }

    fn index(file: File, begin: u64, spool: Option<TempFile>) -> Result<Self, ImageError> {
        let bad = |source: io::Error| ImageError::Archive(source.to_string());
        let length = file.metadata().map_err(bad)?.len();
        let reader = BufReader::new(file.try_clone().map_err(bad)?);
        let mut archive = Archive::new(reader);
        let mut entries = BTreeMap::new();
        for entry in archive.entries_with_seek().map_err(bad)? {
            let entry = entry.map_err(bad)?;
            let kind = entry.header().entry_type();
            let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
            if !kind.is_file() && !is_link {
                continue;
            }
            let name = name(&entry.path_bytes())?;
            let found = if is_link {
                let target = entry.link_name_bytes().unwrap_or_default();
                Entry::Link(resolve(&name, &target, kind == EntryType::Link)?)
            } else {
                let (offset, size) = (begin + entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|end| end > length) {
                    return Err(ImageError::Archive(format!("it ends inside of {name:?}")));
                }
                Entry::File { offset, size }
            };
            if entries.insert(name.clone(), found).is_some() {
                return Err(ImageError::Archive(format!("it has {name:?} twice")));
            }
            if entries.len() > ENTRIES {
                return Err(ImageError::Archive(format!(
                    "it has more than {ENTRIES} files"
                )));
            }
        }
        Ok(Self {
            file,
            entries,
            _spool: spool,
        })
    }

    /// Whether there is an entry of this name.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of this name, to be read.
    pub fn reader(&self, name: &str) -> Result<Piece<'_>, ImageError> {
        let (offset, size) = self.find(name)?;
        Ok(Piece {
            file: &self.file,
            offset,
            left: size,
        })
    }

    /// A small entry whole.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, ImageError> {
        let mut reader = self.reader(name)?;
        if reader.left > limit {
            return Err(ImageError::Archive(format!(
                "{name:?} is larger than {limit} bytes (limits.manifest-bytes in the settings)"
            )));
        }
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .map_err(|source| ImageError::io("read the archive", source))?;
        Ok(bytes)
    }

    fn find(&self, name: &str) -> Result<(u64, u64), ImageError> {
        let mut name = name.to_owned();
        for _ in 0..LINKS {
            match self.entries.get(name.trim_start_matches("./")) {
                Some(Entry::File { offset, size }) => return Ok((*offset, *size)),
                Some(Entry::Link(target)) => name.clone_from(target),
                None => return Err(ImageError::Archive(format!("it has no {name:?}"))),
            }
        }
        Err(ImageError::Archive(format!(
            "links lead {name:?} around in circles"
        )))
    }
}

/// Part of the archive.
#[derive(Debug)]
pub struct Piece<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Piece<'_> {
    /// The bytes that are left.
    pub fn size(&self) -> u64 {
        self.left
    }
}

impl Read for Piece<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..most).unwrap_or_default();
        let count = self.file.read_at(part, self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

fn spool(store: &Store, input: impl Read, limit: u64) -> Result<TempFile, ImageError> {
    let temp = store.temp_file("archive")?;
    let mut source = Fallible {
        input: input.take(limit.saturating_add(1)),
        error: None,
    };
    let copied = io::copy(&mut source, &mut temp.file());
    if let Some(error) = source.error {
        return Err(ImageError::Archive(error.to_string()));
    }
    let size = copied.map_err(|source| StoreError::io("write", temp.path(), source))?;
    if size > limit {
        return Err(ImageError::Archive(format!(
            "it has more than {limit} bytes (limits.layer-bytes in the settings)"
        )));
    }
    Ok(temp)
}

/// Tells errors of reading from errors of writing.
struct Fallible<R> {
    input: R,
    error: Option<io::Error>,
}

impl<R: Read> Read for Fallible<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer).map_err(|error| {
            let copy = io::Error::other(error.to_string());
            self.error = Some(error);
            copy
        })
    }
}

fn reopen(temp: &TempFile) -> Result<File, ImageError> {
    let file = File::open(temp.path());
    file.map_err(|source| StoreError::io("open", temp.path(), source).into())
}

/// An entry's name in one spelling; names that lead outside are refused.
fn name(bytes: &[u8]) -> Result<String, ImageError> {
    let bad = || {
        ImageError::Archive(format!(
            "bad file name {:?}",
            String::from_utf8_lossy(bytes)
        ))
    };
    let text = std::str::from_utf8(bytes).map_err(|_| bad())?;
    let mut parts = Vec::new();
    for component in std::path::Path::new(text).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(bad)?),
            Component::CurDir => {}
            _ => return Err(bad()),
        }
    }
    if parts.is_empty() || text.contains('\0') {
        return Err(bad());
    }
    Ok(parts.join("/"))
}

/// Where a link leads, as a name in the archive: symbolic links start from the directory that
/// they are in, hard links from the top.
fn resolve(from: &str, target: &[u8], is_hard: bool) -> Result<String, ImageError> {
    let bad = || ImageError::Archive(format!("the link {from:?} leads out of the archive"));
    let text = std::str::from_utf8(target).map_err(|_| bad())?;
    let mut parts: Vec<&str> = match is_hard {
        true => Vec::new(),
        false => from
            .split('/')
            .rev()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect(),
    };
    for component in std::path::Path::new(text).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(bad)?),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop().ok_or_else(bad)?;
            }
            _ => return Err(bad()),
        }
    }
    Ok(parts.join("/"))
}
