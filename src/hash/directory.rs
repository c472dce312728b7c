//! A directory of the host.

use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::HashError;
use super::listing::{Entry, Kind, Listing, digests};
use crate::image::digest::Digest;

/// What is in a directory, or a single file under the empty name. Links are not followed.
pub fn read(path: &Path) -> Result<Listing, HashError> {
    let mut listing = Listing::default();
    let failed = |path: &Path, cause| HashError::Read {
        path: path.to_owned(),
        cause,
    };
    // What is named is followed, as `find DIR/` does.
    let metadata = fs::metadata(path).map_err(|cause| failed(path, cause))?;
    if !metadata.is_dir() {
        listing.0.insert(Vec::new(), entry(path, &metadata)?);
        return Ok(listing);
    }
    let mut waiting = vec![(Vec::new(), path.to_owned())];
    while let Some((inside, directory)) = waiting.pop() {
        let names = fs::read_dir(&directory).map_err(|cause| failed(&directory, cause))?;
        for name in names {
            let name = name.map_err(|cause| failed(&directory, cause))?;
            let place = name.path();
            let metadata = fs::symlink_metadata(&place).map_err(|cause| failed(&place, cause))?;
            let own = match inside.is_empty() {
                true => name.file_name().as_bytes().to_vec(),
                false => [&inside, &b"/"[..], name.file_name().as_bytes()].concat(),
            };
            listing.0.insert(own.clone(), entry(&place, &metadata)?);
            if metadata.is_dir() {
                waiting.push((own, place));
            }
        }
    }
    Ok(listing)
}

fn entry(path: &Path, metadata: &Metadata) -> Result<Entry, HashError> {
    let failed = |cause| HashError::Read {
        path: path.to_owned(),
        cause,
    };
    let kind = metadata.file_type();
    let (mut sha1, mut size) = ([0; 20], 0);
    let (kind, content) = if kind.is_file() {
        let file = File::open(path).map_err(failed)?;
        let (content, other, length) = digests(file).map_err(failed)?;
        (sha1, size) = (other, length);
        (Kind::File, content)
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(failed)?;
        (Kind::Link, Digest::of(target.as_os_str().as_bytes()))
    } else if kind.is_dir() {
        (Kind::Directory, Digest::of(""))
    } else if kind.is_char_device() || kind.is_block_device() {
        let number = metadata.rdev();
        let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
        (Kind::Device, Digest::of(format!("{major}:{minor}")))
    } else if kind.is_fifo() {
        (Kind::Pipe, Digest::of(""))
    } else {
        (Kind::Socket, Digest::of(""))
    };
    Ok(Entry {
        kind,
        content,
        sha1,
        size,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        modified: (
            metadata.mtime(),
            u32::try_from(metadata.mtime_nsec()).unwrap_or_default(),
        ),
    })
}
