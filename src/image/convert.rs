//! From a stream of bytes to a layer in the store, in one pass: verified, kept compressed for
//! pushing, and converted for the guest.

use std::fs::File;
use std::io::{self, Read, Write};

use super::digest::Digest;
use super::erofs::Reader;
use super::error::ImageError;
use super::layer::fixup::{FixupError, StackedLayer, fixup_layer};
use super::layer::{self, LayerError, LayerLimits};
use super::manifest::Blob;
use crate::settings::Limits;
use crate::store::{LayerRecord, Lease, Store, StoreError};

/// What a layer must turn out to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected<'a> {
    /// The compressed layer that a manifest names.
    pub blob: Option<&'a Blob>,
    /// The uncompressed one that a configuration names.
    pub diff_id: Option<&'a Digest>,
}

/// A layer that is in the store now.
#[derive(Debug, Clone)]
pub struct Added {
    /// The digest of what came.
    pub blob: Digest,
    /// Its size.
    pub blob_size: u64,
    /// What it is, in the words of manifests.
    pub media_type: &'static str,
    /// What it contained.
    pub layer: LayerRecord,
}

/// The bounds on a layer, as the settings have them.
pub fn limits(settings: &Limits) -> LayerLimits {
    LayerLimits {
        unpacked_bytes: settings.layer_bytes,
        entries: settings.layer_files,
        ..LayerLimits::default()
    }
}

/// Stores the layer that `input` yields, and claims it.
pub fn add_layer(
    store: &Store,
    lease: &Lease<'_>,
    limits: &LayerLimits,
    input: &mut impl Read,
    expected: Expected<'_>,
) -> Result<Added, ImageError> {
    let blob = store.temp_file("blob")?;
    let image = store.temp_file("layer")?;
    let mut tee = Tee {
        input,
        copy: blob.file(),
        start: Vec::new(),
        failure: None,
    };
    let converted = layer::convert(&mut tee, image.file(), limits);
    let media_type = tee.media_type();
    if let Some(cause) = tee.failure {
        return Err(StoreError::io("write", blob.path(), cause).into());
    }
    let name = |digest: &Digest| format!("layer {}", digest.short());
    let converted = converted.map_err(|cause| {
        let known = expected
            .blob
            .map(|blob| blob.digest)
            .or(expected.diff_id.copied());
        ImageError::Layer {
            layer: known.map_or("of the archive".to_owned(), |d| d.short()),
            cause,
        }
    })?;
    if let Some(promised) = expected.blob {
        if promised.size != converted.blob_size {
            return Err(ImageError::Size {
                what: name(&promised.digest),
                expected: promised.size,
                actual: converted.blob_size,
            });
        }
        check(
            &name(&promised.digest),
            &promised.digest,
            &converted.blob_digest,
        )?;
    }
    if let Some(promised) = expected.diff_id {
        check(
            &format!("the content of {}", name(&converted.blob_digest)),
            promised,
            &converted.diff_id,
        )?;
    }
    let record = LayerRecord {
        diff_id: converted.diff_id,
        content_size: converted.content_size,
        implicit_dirs: converted.implicit_dirs,
    };
    store.add_layer(
        lease,
        (converted.blob_digest, converted.blob_size, blob),
        &record,
        image,
    )?;
    Ok(Added {
        blob: converted.blob_digest,
        blob_size: converted.blob_size,
        media_type,
        layer: record,
    })
}

/// The layer in `blob`, claimed, if the store has it already.
pub fn claim(
    store: &Store,
    lease: &Lease<'_>,
    blob: &Digest,
    diff_id: &Digest,
) -> Result<Option<Added>, ImageError> {
    let Some(layer) = store.claim_blob(lease, blob, diff_id)? else {
        return Ok(None);
    };
    let path = store.blob_path(blob);
    let mut start = Vec::new();
    let read = File::open(&path).and_then(|file| {
        (&file).take(4).read_to_end(&mut start)?;
        file.metadata()
    });
    let metadata = read.map_err(|cause| StoreError::io("read", &path, cause))?;
    let media_type = media_type(&start);
    Ok(Some(Added {
        blob: *blob,
        blob_size: metadata.len(),
        media_type,
        layer,
    }))
}

fn check(what: &str, expected: &Digest, actual: &Digest) -> Result<(), ImageError> {
    if expected == actual {
        return Ok(());
    }
    Err(ImageError::Digest {
        what: what.to_owned(),
        expected: *expected,
        actual: *actual,
    })
}

/// Makes the layer that goes on top of these, the lowest first, where one is needed: overlayfs
/// would show the made-up attributes of directories that an upper layer merely passes through.
pub fn add_fixup(
    store: &Store,
    lease: &Lease<'_>,
    layers: &[Digest],
) -> Result<Option<Digest>, ImageError> {
    let records = layers
        .iter()
        .filter_map(|layer| store.layer(layer).transpose())
        .collect::<Result<Vec<_>, _>>()?;
    if layers.len() < 2
        || records
            .iter()
            .skip(1)
            .all(|layer| layer.implicit_dirs.is_empty())
    {
        return Ok(None);
    }
    let name = layers
        .iter()
        .fold("directories above".to_owned(), |name, layer| {
            format!("{name} {layer}")
        });
    let digest = Digest::of(name);
    if store.claim_made_layer(lease, &digest)? {
        return Ok(Some(digest));
    }
    let image = store.temp_file("layer")?;
    if !write_fixup(store, &records, image.file())? {
        return Ok(None);
    }
    let record = LayerRecord {
        diff_id: digest,
        content_size: 0,
        implicit_dirs: Vec::new(),
    };
    store.add_made_layer(lease, &record, image)?;
    Ok(Some(digest))
}

fn write_fixup(store: &Store, layers: &[LayerRecord], work: &File) -> Result<bool, ImageError> {
    let fail = |layer: &Digest, cause: FixupError| {
        ImageError::document(format!("layer {}", layer.short()), cause)
    };
    let readers = layers
        .iter()
        .map(|layer| {
            let path = store.layer_path(&layer.diff_id);
            let file = File::open(&path).map_err(|cause| StoreError::io("open", &path, cause))?;
            Reader::open(file).map_err(|cause| fail(&layer.diff_id, cause.into()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let stack: Vec<StackedLayer<'_>> = readers
        .iter()
        .zip(layers)
        .map(|(reader, layer)| StackedLayer {
            reader,
            implicit_dirs: &layer.implicit_dirs,
        })
        .collect();
    let top = layers
        .last()
        .map_or_else(|| Digest::of(""), |layer| layer.diff_id);
    let size = fixup_layer(&stack, work).map_err(|cause| match cause {
        FixupError::Write(cause) => ImageError::Layer {
            layer: top.short(),
            cause: LayerError::Write(cause),
        },
        cause => fail(&top, cause),
    })?;
    Ok(size.is_some())
}

/// Makes a layer's missing EROFS file anew: from its blob, or, for the layer on top that has
/// none, from the other `layers`.
pub fn remake(
    store: &Store,
    layers: &[Digest],
    missing: &Digest,
    blob: Option<&Digest>,
) -> Result<(), ImageError> {
    let lease = Lease::begin(store)?;
    let _lock = store.lock_digest(blob.unwrap_or(missing), || {})?;
    if store.layer_path(missing).is_file() {
        return Ok(());
    }
    let Some(blob) = blob else {
        return add_fixup(store, &lease, layers).map(|_| ());
    };
    let path = store.blob_path(blob);
    let mut input = File::open(&path).map_err(|cause| StoreError::io("open", &path, cause))?;
    // It was within the limits when it came.
    let limits = LayerLimits {
        unpacked_bytes: u64::MAX,
        entries: u64::MAX,
        ratio: u64::MAX,
        ..LayerLimits::default()
    };
    let image = store.temp_file("layer")?;
    let converted =
        layer::convert(&mut input, image.file(), &limits).map_err(|cause| ImageError::Layer {
            layer: blob.short(),
            cause,
        })?;
    check(
        &format!("the stored layer {}", blob.short()),
        missing,
        &converted.diff_id,
    )?;
    let record = LayerRecord {
        diff_id: converted.diff_id,
        content_size: converted.content_size,
        implicit_dirs: converted.implicit_dirs,
    };
    store.add_made_layer(&lease, &record, image)?;
    Ok(())
}

/// What a layer with these first bytes is, in the words of manifests.
fn media_type(start: &[u8]) -> &'static str {
    match start {
        [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => "application/vnd.oci.image.layer.v1.tar",
    }
}

/// Passes reads through and keeps a copy of what came.
struct Tee<'a, R> {
    input: &'a mut R,
    copy: &'a File,
    /// The first bytes, which tell the compression.
    start: Vec<u8>,
    failure: Option<io::Error>,
}

impl<R> Tee<'_, R> {
    fn media_type(&self) -> &'static str {
        media_type(&self.start)
    }
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let data = buffer.get(..count).unwrap_or_default();
        let wanted = 4_usize.saturating_sub(self.start.len());
        self.start.extend(data.iter().take(wanted));
        if let Err(error) = self.copy.write_all(data) {
            let text = error.to_string();
            self.failure = Some(error);
            return Err(io::Error::other(text));
        }
        Ok(count)
    }
}
