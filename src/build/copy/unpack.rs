//! `ADD` of an archive: its files become the layer's.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use guest_agent::archive::Numbers;
use tar::EntryType;

use super::{CopyError, Mode, Placer};
use crate::build::files::names;
use crate::build::layer::{Content, Entries, Entry, Kind};
use crate::image::erofs::Xattrs;

/// Bytes that tell what a file is.
const HEAD: usize = 512;
/// The most that an archive may unpack to.
const MAX_UNPACKED: u64 = 64 << 30;

/// The longest path, as long as one that programs can use.
const MAX_PATH: usize = 4096;

/// An archive that is about to be unpacked.
pub struct Archive {
    input: Box<dyn Read>,
}

impl Archive {
    /// The archive in a file, if it is one: plain, or in gzip, bzip2, xz or zstd.
    pub fn detect(
        open: impl FnOnce() -> Result<Box<dyn Read + Send>, CopyError>,
    ) -> Result<Option<Self>, CopyError> {
        let mut file = open()?;
        let head = read_head(&mut file)?;
        let mut input = decompressed(&head, Cursor::new(head.clone()).chain(file))?;
        // What is compressed need not be an archive: then it is copied as it is.
        let Ok(head) = read_head(&mut input) else {
            return Ok(None);
        };
        Ok(is_tar(&head).then(|| Self {
            input: Box::new(Cursor::new(head).chain(input)),
        }))
    }
}

/// The compressions' marks.
const MARKS: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"];

/// Whether bytes are the begin of something compressed.
pub fn is_compressed(head: &[u8]) -> bool {
    MARKS.iter().any(|mark| head.starts_with(mark))
}

/// What is compressed in `input`, which begins with `head`; itself, when it is not.
fn decompressed(head: &[u8], input: impl Read + Send + 'static) -> io::Result<Box<dyn Read>> {
    let whole = BufReader::new(input);
    let [gzip, zstd, xz, bzip2] = MARKS;
    Ok(match () {
        () if head.starts_with(gzip) => Box::new(MultiGzDecoder::new(whole)),
        () if head.starts_with(zstd) => Box::new(zstd::Decoder::with_buffer(whole)?),
        () if head.starts_with(xz) => Box::new(liblzma::bufread::XzDecoder::new(whole)),
        () if head.starts_with(bzip2) => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        () => Box::new(whole),
    })
}

fn read_head(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    input.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Whether a block is the header of an archive's entry: its checksum says so.
fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.first_chunk::<HEAD>() else {
        return false;
    };
    let mut copy = tar::Header::new_old();
    copy.as_mut_bytes().copy_from_slice(header);
    let Ok(promised) = copy.cksum() else {
        return false;
    };
    let sum: u32 = header[..148]
        .iter()
        .chain(&header[156..])
        .map(|b| u32::from(*b))
        .sum();
    header[0] != 0 && sum + 8 * 32 == promised
}

/// The files of an archive that is one whatever its first bytes are; their contents go into
/// `spool`.
pub fn read_archive(
    mut input: Box<dyn Read + Send>,
    shown: &str,
    spool: File,
) -> Result<Entries, CopyError> {
    let failed = |error| CopyError::Archive(shown.to_owned(), error);
    let head = read_head(&mut input).map_err(failed)?;
    let input = decompressed(&head, Cursor::new(head.clone()).chain(input)).map_err(failed)?;
    let mut placer = Placer::new(None, Some((0, 0)), i64::MAX);
    unpack(&mut placer, &[], Archive { input }, shown, None, spool)?;
    Ok(placer.finish())
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").finish_non_exhaustive()
    }
}

/// Puts an archive's files below `base`; their contents go into `spool` meanwhile.
pub fn unpack(
    placer: &mut Placer<'_>,
    base: &[Vec<u8>],
    archive: Archive,
    shown: &str,
    mode: Option<&Mode>,
    spool: File,
) -> Result<(), CopyError> {
    let failed = |error: io::Error| CopyError::Archive(shown.to_owned(), error);
    let spool = Arc::new(spool);
    let mut archive = tar::Archive::new(archive.input.take(MAX_UNPACKED));
    let mut at = 0;
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let bytes = entry.path_bytes();
        if bytes.len() > MAX_PATH {
            return Err(failed(io::Error::other("a path in it is too long")));
        }
        let path = names(&bytes);
        drop(bytes);
        if path.iter().any(|name| name == b"..") || path.iter().any(|name| name.contains(&0)) {
            let error = io::Error::other("a name in it leads out of the destination");
            return Err(failed(error));
        }
        if path.is_empty() {
            continue;
        }
        let xattrs = xattrs(&mut entry).map_err(failed)?;
        let header = entry.header();
        let kind = match header.entry_type() {
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(target(&entry).map_err(failed)?),
            EntryType::Link => {
                let link = names(&target(&entry).map_err(failed)?);
                let link = placer.follow(&[base, &link].concat())?;
                Kind::Link(link.join(&b'/'))
            }
            EntryType::Fifo => Kind::Fifo,
            kind @ (EntryType::Char | EntryType::Block) => {
                let major = header.device_major().map_err(failed)?.unwrap_or(0);
                let minor = header.device_minor().map_err(failed)?.unwrap_or(0);
                match kind {
                    EntryType::Char => Kind::Char(major, minor),
                    _ => Kind::Block(major, minor),
                }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let size = io::copy(&mut entry, &mut &*spool).map_err(failed)?;
                let content = Content::Slice(Arc::clone(&spool), at);
                at += size;
                Kind::File(size, content)
            }
            // Comments of the archive's own.
            _ => continue,
        };
        let numbers = Numbers::of(entry.header()).map_err(failed)?;
        let id = |id: u64| u32::try_from(id).map_err(|error| failed(io::Error::other(error)));
        let (uid, gid) = match placer.owner {
            Some(owner) => owner,
            None => (id(numbers.uid)?, id(numbers.gid)?),
        };
        let entry = Entry {
            kind,
            mode: numbers.mode,
            uid,
            gid,
            mtime: i64::try_from(numbers.mtime).unwrap_or(i64::MAX),
            xattrs,
        };
        let there = placer.follow(&[base, &path].concat())?;
        placer.put(&there, entry, mode)?;
    }
    (&*spool).flush()?;
    Ok(())
}

fn target<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<Vec<u8>> {
    let target = entry.link_name_bytes();
    let target = target.ok_or_else(|| io::Error::other("a link in it leads nowhere"))?;
    Ok(target.into_owned())
}

fn xattrs<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Xattrs> {
    let mut found = Xattrs::new();
    let Some(records) = entry.pax_extensions()? else {
        return Ok(found);
    };
    for record in records {
        let record = record?;
        if let Some(name) = record.key_bytes().strip_prefix(b"SCHILY.xattr.") {
            found.insert(name.to_vec(), record.value_bytes().to_vec());
        }
    }
    Ok(found)
}
