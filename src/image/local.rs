//! Images in the store: finding them by whatever people write, and their files.

use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;

use super::convert;
use super::digest::Digest;
use super::error::ImageError;
use super::manifest::parse_config;
use super::reference::Reference;
use crate::arch::Platform;
use crate::store::{ImageRecord, NameRecord, Store};

/// An image in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// Its names in familiar form, as in `debian:12`.
    pub names: Vec<String>,
    /// Its digests at registries in familiar form, as in `debian@sha256:…`.
    pub digests: Vec<String>,
    /// What its configuration claims to be for.
    pub platform: Platform,
    /// The configuration.
    pub config: ImageConfiguration,
    /// The configuration to the byte; it may say more than the standard knows (`Healthcheck`).
    pub raw_config: Vec<u8>,
    /// The diff-ids of its layers, bottom first.
    pub layers: Vec<Digest>,
    /// Its compressed layers, bottom first.
    pub blobs: Vec<Digest>,
    /// The layer on top that puts right the attributes of directories which a layer uses without
    /// describing them; most images need none.
    pub fixup: Option<Digest>,
    /// Bytes of the files in its layers.
    pub size: u64,
    /// When it was built, as its configuration has it (RFC 3339).
    pub created: Option<String>,
    /// When it came here, in seconds since 1970.
    pub stored: i64,
    /// Its manifest to the byte.
    pub manifest: Vec<u8>,
    /// The media type of the manifest.
    pub manifest_type: String,
}

impl Image {
    /// The EROFS files of its layers, bottom first. A file that is missing is made anew from the
    /// compressed layer.
    ///
    /// A layer that occurs twice is listed once, in its upper place: everything that its lower
    /// occurrence shows or hides, the upper one shows and hides too.
    pub fn layer_files(&self, store: &Store) -> Result<Vec<PathBuf>, ImageError> {
        let layers = self
            .layers
            .iter()
            .zip(&self.blobs)
            .map(|(layer, blob)| (*layer, Some(*blob)));
        let layers: Vec<_> = layers
            .chain(self.fixup.map(|fixup| (fixup, None)))
            .collect();
        let mut files = Vec::with_capacity(layers.len());
        for (position, (layer, blob)) in layers.iter().enumerate() {
            if layers
                .iter()
                .skip(position + 1)
                .any(|(above, _)| above == layer)
            {
                continue;
            }
            let path = store.layer_path(layer);
            if !path.is_file() {
                convert::remake(store, &self.layers, layer, blob.as_ref())?;
            }
            files.push(path);
        }
        Ok(files)
    }
}

/// The image that `name` means: a reference, a full or shortened identifier, or
/// `repository@digest`.
///
/// Where a name has images for several platforms, `platform` chooses; without one the machine's
/// own is preferred, and any other will do.
pub fn find(
    store: &Store,
    name: &str,
    platform: Option<&Platform>,
) -> Result<Option<Image>, ImageError> {
    match find_id(store, name, platform)? {
        Some(id) => load(store, &id),
        None => Ok(None),
    }
}

/// Like [`find`], with docker's error when there is no such image.
pub fn get(store: &Store, name: &str, platform: Option<&Platform>) -> Result<Image, ImageError> {
    find(store, name, platform)?.ok_or_else(|| not_found(name))
}

/// Docker's error for a local image that does not exist.
pub fn not_found(name: &str) -> ImageError {
    let full = name
        .parse::<Reference>()
        .map(|reference| reference.with_default_tag().to_string());
    ImageError::NotFound(full.unwrap_or_else(|_| name.to_owned()))
}

/// The image with this identifier.
pub fn load(store: &Store, id: &Digest) -> Result<Option<Image>, ImageError> {
    let Some(record) = store.image(id)? else {
        return Ok(None);
    };
    let names = store.names_of(id)?;
    let digests = store.repo_digests_of(id)?;
    let mut digests: Vec<String> = digests
        .iter()
        .map(|entry| familiar(&format!("{}@{}", entry.repository, entry.digest)))
        .collect();
    digests.sort();
    let mut names: Vec<String> = names.iter().map(|name| familiar(&name.reference)).collect();
    names.sort();
    names.dedup();
    from_record(record, names, digests).map(Some)
}

/// All images, newest first by when they were built.
pub fn list(store: &Store) -> Result<Vec<Image>, ImageError> {
    // Names are read last: an image that comes here meanwhile is not listed rather than listed
    // without its name, as if nobody needed it.
    let records = store.images()?;
    let (names, digests) = (store.names()?, store.repo_digests()?);
    let mut images = Vec::new();
    for record in records {
        let mut own: Vec<String> = names
            .iter()
            .filter(|name| name.image == record.id)
            .map(|name| familiar(&name.reference))
            .collect();
        own.dedup();
        let digests = digests
            .iter()
            .filter(|entry| entry.image == record.id)
            .map(|entry| familiar(&format!("{}@{}", entry.repository, entry.digest)))
            .collect();
        images.push(from_record(record, own, digests)?);
    }
    images.sort_by_cached_key(|image| {
        let built = super::filter::created(image);
        std::cmp::Reverse(built.map(jiff::Timestamp::as_nanosecond))
    });
    Ok(images)
}

fn familiar(canonical: &str) -> String {
    canonical
        .parse::<Reference>()
        .map_or_else(|_| canonical.to_owned(), |reference| reference.to_string())
}

fn from_record(
    record: ImageRecord,
    names: Vec<String>,
    digests: Vec<String>,
) -> Result<Image, ImageError> {
    let config = parse_config(&record.config, record.layers.len())?;
    let (layers, blobs) = record.layers.into_iter().unzip();
    Ok(Image {
        id: record.id,
        names,
        digests,
        platform: config.platform,
        created: config.parsed.created().clone(),
        config: config.parsed,
        raw_config: record.config,
        layers,
        blobs,
        fixup: record.fixup,
        size: record.size,
        stored: record.stored,
        manifest: record.manifest,
        manifest_type: record.manifest_type,
    })
}

fn find_id(
    store: &Store,
    name: &str,
    platform: Option<&Platform>,
) -> Result<Option<Digest>, ImageError> {
    if let Ok(reference) = name.parse::<Reference>() {
        if let Some(digest) = reference.digest() {
            let known = at_digest(store, &reference, &digest, platform)?;
            if known.is_some() {
                return Ok(known);
            }
        } else {
            let canonical = reference.clone().with_default_tag().canonical();
            let named = store.names_like(&canonical)?;
            if let Some(chosen) = choose(&named, platform) {
                return Ok(Some(chosen.image));
            }
        }
    }
    let prefix = name.strip_prefix("sha256:").unwrap_or(name);
    let is_prefix = !prefix.is_empty()
        && prefix.len() <= 64
        && prefix
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !is_prefix {
        return Ok(None);
    }
    match store.image_ids(prefix)?.as_slice() {
        [] => Ok(None),
        [id] => Ok(Some(*id)),
        several => Err(ImageError::Ambiguous {
            prefix: prefix.to_owned(),
            candidates: several
                .iter()
                .map(Digest::short)
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// Of images with one name, the one that serves the platform best; without a wish, the
/// machine's own or else any.
fn choose<'a>(named: &'a [NameRecord], platform: Option<&Platform>) -> Option<&'a NameRecord> {
    let best = |wanted: &Platform| {
        named
            .iter()
            .filter_map(|name| Some((name.platform.parse::<Platform>().ok()?.rank(wanted)?, name)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, name)| name)
    };
    match platform {
        Some(wanted) => best(wanted),
        None => best(&Platform::host()).or(named.first()),
    }
}

/// The image that a repository's digest led to.
fn at_digest(
    store: &Store,
    reference: &Reference,
    digest: &Digest,
    platform: Option<&Platform>,
) -> Result<Option<Digest>, ImageError> {
    let repository = reference.canonical_name();
    let mut candidates = Vec::new();
    for entry in store.repo_digests_at(&repository, digest)? {
        let Some(image) = store.image(&entry.image)? else {
            continue;
        };
        candidates.push(NameRecord {
            reference: String::new(),
            platform: image.platform,
            image: entry.image,
        });
    }
    Ok(choose(&candidates, platform).map(|name| name.image))
}
