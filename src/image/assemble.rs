//! Putting an image into the store once all its layers are there.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::convert::{self, Added};
use super::digest::Digest;
use super::error::ImageError;
use super::local::{self, Image};
use super::manifest::{self, Blob, Config};
use crate::store::{ImageRecord, Lease, NewNames, Store};

/// Everything that an image consists of, checked.
#[derive(Debug)]
pub struct Parts {
    /// The configuration to the byte.
    pub config: Vec<u8>,
    /// The configuration, read.
    pub parsed: Config,
    /// The layers, bottom first, as pairs of diff-id and compressed blob; all are claimed.
    pub layers: Vec<(Digest, Digest)>,
    /// The manifest to the byte.
    pub manifest: Vec<u8>,
    /// The manifest's media type.
    pub manifest_type: String,
}

impl Parts {
    /// The parts of an image that comes without a manifest, for which one is made.
    pub fn without_manifest(config: Vec<u8>, layers: &[Added]) -> Result<Self, ImageError> {
        let parsed = manifest::parse_config(&config, layers.len())?;
        let blobs: Vec<Blob> = layers
            .iter()
            .map(|layer| Blob {
                digest: layer.blob,
                size: layer.blob_size,
                media_type: layer.media_type.to_owned(),
            })
            .collect();
        Ok(Self {
            manifest: manifest::compose(&config, &blobs),
            manifest_type: manifest::OCI_MANIFEST.to_owned(),
            layers: layers
                .iter()
                .map(|layer| (layer.layer.diff_id, layer.blob))
                .collect(),
            config,
            parsed,
        })
    }
}

/// Makes the configuration that another image's is made of its own: what belongs to that one
/// alone goes, its own date, layers and further steps of the history come in.
pub fn derive(
    config: &mut Map<String, Value>,
    created: &str,
    diff_ids: &[Digest],
    steps: impl IntoIterator<Item = Value>,
) {
    for key in [
        "container",
        "container_config",
        "docker_version",
        "id",
        "parent",
    ] {
        config.remove(key);
    }
    config.insert("created".to_owned(), created.into());
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    config.insert("rootfs".to_owned(), rootfs);
    match config.get_mut("history") {
        Some(Value::Array(history)) => history.extend(steps),
        _ => drop(config.insert("history".to_owned(), steps.into_iter().collect())),
    }
}

/// Stores an image and its names; true when it was not here before.
pub fn store(
    store: &Store,
    lease: &Lease<'_>,
    parts: Parts,
    names: &NewNames,
) -> Result<(Image, bool), ImageError> {
    let id = Digest::of(&parts.config);
    let mut size = 0_u64;
    for layer in &parts.parsed.diff_ids {
        size = size.saturating_add(store.layer(layer)?.map_or(0, |layer| layer.content_size));
    }
    let record = ImageRecord {
        id,
        platform: parts.parsed.platform.to_string(),
        config: parts.config,
        manifest: parts.manifest,
        manifest_type: parts.manifest_type,
        size,
        stored: now(),
        fixup: convert::add_fixup(store, lease, &parts.parsed.diff_ids)?,
        layers: parts.layers,
    };
    let added = store.add_image(&record, names)?;
    let image = local::load(store, &id)?.ok_or_else(|| local::not_found(&id.to_string()))?;
    Ok((image, added))
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
