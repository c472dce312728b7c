//! `commit`: an image with one more layer than another.

use std::io::Read;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::assemble::{self, Parts};
use super::change;
use super::convert::{self, Expected};
use super::error::ImageError;
use super::local::Image;
use super::reference::Reference;
use crate::settings::Settings;
use crate::store::{Lease, NewNames, Store};

/// What a committed image is to be.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Its name, if any.
    pub reference: Option<Reference>,
    /// Instructions to apply, as in `CMD ["sh"]`.
    pub changes: Vec<String>,
    /// Who made it.
    pub author: Option<String>,
    /// A comment for its history.
    pub message: Option<String>,
    /// What of the container goes into its configuration, in docker's names.
    pub config: Map<String, Value>,
    /// The command that made the layer, for its history.
    pub created_by: String,
}

/// Makes an image of `base` and the layer that `layer` yields; `check` tells in the end whether
/// the layer came whole.
pub fn commit<R: Read>(
    store: &Store,
    settings: &Settings,
    base: &Image,
    layer: &mut R,
    check: impl FnOnce(&mut R) -> Result<(), ImageError>,
    commit: &Commit,
) -> Result<Image, ImageError> {
    let with_digest = |reference: &Reference| reference.digest().is_some();
    if commit.reference.as_ref().is_some_and(with_digest) {
        let message = "cannot commit to digest reference".to_owned();
        return Err(ImageError::Usage(message));
    }
    let mut image: Map<String, Value> = serde_json::from_slice(&base.raw_config)
        .map_err(|cause| ImageError::document("the image's configuration", cause))?;
    let mut config = match image.remove("config") {
        Some(Value::Object(config)) => config,
        _ => Map::new(),
    };
    config.extend(commit.config.clone());
    for instruction in &commit.changes {
        change::apply(&mut config, instruction)?;
    }
    let lease = Lease::begin(store)?;
    let mut layers = Vec::with_capacity(base.layers.len() + 1);
    for (diff_id, blob) in base.layers.iter().zip(&base.blobs) {
        let known = convert::claim(store, &lease, blob, diff_id)?;
        layers.push(known.ok_or_else(|| super::not_found(&base.id.to_string()))?);
    }
    let limits = convert::limits(&settings.limits);
    let added = convert::add_layer(store, &lease, &limits, layer, Expected::default())?;
    check(layer)?;
    layers.push(added);

    let created = Timestamp::now().to_string();
    let mut step = json!({"created": created, "created_by": commit.created_by});
    let texts = [("author", &commit.author), ("comment", &commit.message)];
    for (key, text) in texts {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            step[key] = Value::from(text.clone());
        }
    }
    let author = commit.author.clone().unwrap_or_default();
    let diff_ids: Vec<_> = layers.iter().map(|added| added.layer.diff_id).collect();
    assemble::derive(&mut image, &created, &diff_ids, [step]);
    image.insert("author".to_owned(), author.into());
    image.insert("config".to_owned(), config.into());
    let parts = Parts::without_manifest(Value::from(image).to_string().into_bytes(), &layers)?;
    let reference = commit.reference.clone().map(Reference::with_default_tag);
    let names = NewNames {
        references: reference.iter().map(Reference::canonical).collect(),
        ..NewNames::default()
    };
    Ok(assemble::store(store, &lease, parts, &names)?.0)
}
