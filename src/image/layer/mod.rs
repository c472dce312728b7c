//! Turns an image's layers, as registries and archives hold them, into file system images.
//!
//! [`convert`] does everything in one pass over the stream: it finds out the compression, takes
//! the digests of what came and of what was in it, and writes the EROFS image. [`fixup`] then
//! makes layers fit each other.
//!
//! # What a layer may contain, and what becomes of it
//!
//! - The image specification's whiteouts and AUFS' become overlayfs' own: `.wh.NAME` a device
//!   0:0 called `NAME`, `.wh..wh..opq` the attribute `trusted.overlay.opaque`. They hide what
//!   lower layers have, never what the same layer has. Other `.wh..wh.…` files are AUFS'
//!   bookkeeping and are left out.
//! - A later entry replaces an earlier one of the same path; a directory that is replaced by
//!   something else loses its content.
//! - Paths are followed through symbolic links *of the same layer*, within the layer's own root:
//!   `lib -> usr/lib` and then `lib/x` is `usr/lib/x`. Nothing on the host is ever looked up.
//! - Parent directories that have no entry are made with owner root and mode 0755, and
//!   remembered in [`ConvertedLayer::implicit_dirs`].
//! - A hard link must lead to something in the same layer; its own metadata does not count.
//! - Attributes called `trusted.overlay.…`, which an image could use to make overlayfs look
//!   elsewhere, are left out; so are attributes that EROFS has no place for (anything but
//!   `user.`, `trusted.`, `security.` and POSIX ACLs), as docker leaves out what a file system
//!   does not support.
//! - Refused are paths with `..`, entries of unknown types, names and paths that are too long,
//!   and what exceeds [`LayerLimits`].

mod apply;
mod compression;
mod error;
pub mod fixup;
mod limits;
mod path;
mod pipe;
mod tar;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::thread;

use apply::Layer;
use compression::{Compression, HashReader};
pub use error::{LayerError, Problem};
pub use limits::LayerLimits;
pub use tar::TarError;

use crate::image::digest::Digest;
use crate::image::erofs::Writer;

/// What is known about a layer after its conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertedLayer {
    /// Digest of the uncompressed archive: the layer's name in an image's configuration.
    pub diff_id: Digest,
    /// Digest of the bytes that came: the layer's name in a manifest.
    pub blob_digest: Digest,
    /// Bytes that came.
    pub blob_size: u64,
    /// Bytes of the uncompressed archive.
    pub unpacked_size: u64,
    /// Bytes in regular files, as docker counts an image's size.
    pub content_size: u64,
    /// Headers in the archive.
    pub entries: u64,
    /// Bytes of the EROFS image.
    pub image_size: u64,
    /// Directories that the archive has no entry for, from `/` on, parents first.
    pub implicit_dirs: Vec<PathBuf>,
}

/// Converts the layer that `input` yields into an EROFS image in `work`.
///
/// Whatever was in `work` is replaced; when an error comes back, what is in it has no meaning.
/// The digests are those of what was read: it is for the caller to compare them with those that
/// were asked for, before the image gets its name.
pub fn convert(
    input: impl Read,
    work: &File,
    limits: &LayerLimits,
) -> Result<ConvertedLayer, LayerError> {
    let mut input = HashReader::new(input);
    let mut start = Vec::new();
    io::copy(&mut (&mut input).take(8), &mut start).map_err(LayerError::Read)?;
    let compression = Compression::detect(&start)?;
    let input = Cursor::new(start).chain(BufReader::with_capacity(pipe::BUFFER, input));
    let mut decoder = compression.decoder(input).map_err(LayerError::Read)?;
    let mut layer = Layer::new(Writer::new(work).map_err(LayerError::Write)?, limits);
    let (pipe_in, pipe_out) = pipe::pipe();
    // This thread reads and decompresses, the other one hashes the result and writes.
    let (unpacked, written) = thread::scope(|scope| {
        let hash = compression != Compression::None;
        let layer = &mut layer;
        let other = thread::Builder::new()
            .name("layer".into())
            .spawn_scoped(scope, move || write(pipe_out, hash, layer))
            .map_err(LayerError::Read)?;
        let unpacked = pipe_in.pump(
            &mut decoder,
            |decoder, unpacked| {
                limits.check(unpacked, decoder.get_ref().get_ref().1.get_ref().count())
            },
            |decoder, source| {
                if decoder.get_ref().get_ref().1.get_ref().failed() {
                    return LayerError::Read(source);
                }
                LayerError::Decompress {
                    kind: compression.name(),
                    source,
                }
            },
        );
        let written = match other.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok((unpacked?, written?))
    })?;
    let (_, input) = decoder.into_inner().into_inner();
    let (blob_digest, blob_size) = input.into_inner().finish();
    let diff_id = written.digest.unwrap_or(blob_digest);
    let finished = layer.finish(uuid(&diff_id))?;
    Ok(ConvertedLayer {
        diff_id,
        blob_digest,
        blob_size,
        unpacked_size: unpacked,
        content_size: finished.content_size,
        entries: written.entries,
        image_size: finished.image_size,
        implicit_dirs: finished.implicit_dirs.into_iter().map(to_path).collect(),
    })
}

struct Written {
    digest: Option<Digest>,
    entries: u64,
}

fn write(
    input: pipe::PipeReader,
    hash: bool,
    layer: &mut Layer<'_>,
) -> Result<Written, LayerError> {
    let mut tar = tar::TarReader::new(input.hashed(hash));
    layer.add_all(&mut tar)?;
    let entries = tar.headers();
    // What follows the archive's end belongs to the digest and to nothing else.
    let mut input = tar.into_inner();
    input.drain().map_err(LayerError::Read)?;
    Ok(Written {
        digest: input.digest(),
        entries,
    })
}

/// The identity of a layer's image.
fn uuid(digest: &Digest) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest.as_bytes()[..16]);
    // Version 8 (made as one likes), variant 1.
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

fn to_path(path: Vec<u8>) -> PathBuf {
    OsString::from_vec(path).into()
}
