//! Carrying the cache elsewhere: `--cache-to` and `--cache-from` with a directory or a registry.
//!
//! A cache is an index of the images of a build's steps, whose annotations say which step gave
//! which image: in a directory as an OCI image layout, in a registry as a manifest. An image is
//! fetched when its step comes up, and verified; that a step gives an image is believed, so a
//! cache is as trustworthy as who wrote it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

use super::BuildError;
use crate::image::digest::Digest;
use crate::image::{self, Image, ImageError, Reference, Silent, layout};
use crate::settings::Settings;
use crate::store::Store;

/// The annotations' names.
const STEP: &str = "com.hull.build.step";
const PARENT: &str = "com.hull.build.parent";
/// Changes when the meaning of steps does.
const KIND: &str = "application/vnd.hull.build-cache.v1";

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a directory.
    Local(PathBuf),
    /// In a registry.
    Registry(Reference),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Registry(reference) => reference.fmt(f),
        }
    }
}

/// The place that the value of an option names: `type=local,KEY=DIR`, `type=registry,ref=NAME`
/// or a name alone.
pub fn place(option: &str, text: &str, key: &str) -> Result<Place, BuildError> {
    let wrong = |what: String| BuildError::Usage(format!("{option} {text}: {what}"));
    let reference = |name: &str| {
        let reference = name.parse::<Reference>();
        let reference = reference.map_err(|error| wrong(error.to_string()))?;
        Ok(Place::Registry(reference.with_default_tag()))
    };
    if !text.contains('=') {
        return reference(text);
    }
    let fields: BTreeMap<&str, &str> = text
        .split(',')
        .filter_map(|field| field.split_once('='))
        .collect();
    let field = |name: &str| {
        let value = fields.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| wrong(format!("it needs {name}=…")))
    };
    match fields.get("type").copied() {
        Some("local") => Ok(Place::Local(field(key)?.into())),
        Some("registry") | None => reference(field("ref")?),
        Some(kind) => Err(wrong(format!(
            "there is no {kind}, use type=local,{key}=DIR or type=registry,ref=NAME"
        ))),
    }
}

/// What a cache says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    #[serde(default)]
    artifact_type: String,
    manifests: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A cache to take from.
#[derive(Debug)]
pub struct Cache {
    place: Place,
    /// Steps with the manifests of their images, and what those were made of.
    steps: BTreeMap<Digest, (Digest, Option<Digest>)>,
}

impl Cache {
    /// Reads what a cache has; none when there is none.
    pub fn open(settings: &Settings, place: &Place) -> Result<Option<Self>, BuildError> {
        let bytes = match place {
            Place::Local(directory) => layout::index(directory, settings.limits.manifest_bytes)?,
            Place::Registry(reference) => image::index(settings, reference)?,
        };
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| {
            BuildError::Usage(format!("{place} is no cache of builds: {error}"))
        })?;
        if index.artifact_type != KIND {
            return Err(BuildError::Usage(format!("{place} is no cache of builds")));
        }
        let steps = index.manifests.into_iter().filter_map(|listed| {
            let step = listed.annotations.get(STEP)?.parse().ok()?;
            let parent = listed.annotations.get(PARENT);
            let parent = parent.and_then(|parent| parent.parse().ok());
            Some((step, (listed.digest.parse().ok()?, parent)))
        });
        Ok(Some(Self {
            place: place.clone(),
            steps: steps.collect(),
        }))
    }

    /// The image that a step gave, if the cache has it.
    pub fn take(
        &self,
        store: &Store,
        settings: &Settings,
        step: &Digest,
    ) -> Result<Option<Image>, ImageError> {
        let Some((manifest, parent)) = self.steps.get(step) else {
            return Ok(None);
        };
        let image = match &self.place {
            Place::Local(directory) => layout::load(store, settings, directory, manifest)?,
            Place::Registry(reference) => {
                let reference = reference.at_digest(*manifest);
                image::pull_nameless(store, settings, &reference, &Silent)?
            }
        };
        let parent = parent.map(|parent| (image.id, parent));
        store.add_built(
            &BTreeMap::from([(*step, image.id)]),
            &parent.into_iter().collect(),
        )?;
        Ok(Some(image))
    }
}

/// Puts the steps of a build into a cache.
pub fn export(
    store: &Store,
    settings: &Settings,
    steps: &BTreeMap<Digest, Digest>,
    place: &Place,
) -> Result<(), BuildError> {
    let parents = store.parents()?;
    let (mut images, mut entries) = (Vec::new(), Vec::new());
    for (step, id) in steps {
        let Some(image) = image::find(store, &id.to_string(), None)? else {
            continue;
        };
        let mut annotations = json!({STEP: step});
        if let Some(parent) = parents.get(id) {
            annotations[PARENT] = parent.to_string().into();
        }
        entries.push(json!({
            "mediaType": image.manifest_type,
            "digest": Digest::of(&image.manifest),
            "size": image.manifest.len(),
            "annotations": annotations,
        }));
        images.push(image);
    }
    images.dedup_by_key(|image| image.id);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": image::manifest::OCI_INDEX,
        "artifactType": KIND,
        "manifests": Value::from(entries),
    });
    match place {
        Place::Local(directory) => layout::save(store, directory, &images, &index)?,
        Place::Registry(reference) => {
            image::push_index(store, settings, reference, &images, &index)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_mistakes_named() {
        let read = |text: &str| place("--cache-from", text, "src");
        assert_eq!(
            read("type=local,src=/c,mode=max").unwrap(),
            Place::Local("/c".into())
        );
        for text in ["type=registry,ref=h/x:c", "h/x:c", "ref=h/x:c"] {
            let Place::Registry(reference) = read(text).unwrap() else {
                panic!("{text}")
            };
            assert_eq!(reference.tag(), Some("c"), "{text}");
        }
        for (text, why) in [
            ("type=local", "it needs src=…"),
            ("type=gha", "there is no gha"),
            ("type=registry", "it needs ref=…"),
            ("UPPER", "lower"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
