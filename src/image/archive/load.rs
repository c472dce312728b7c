//! `load`: images from an archive into the store.

use std::collections::BTreeMap;
use std::fs::File;

use serde::Deserialize;

use super::tarball::Tarball;
use crate::arch::Platform;
use crate::events::Note;
use crate::image::assemble::{self, Parts};
use crate::image::convert::{self, Added, Expected};
use crate::image::digest::Digest;
use crate::image::error::ImageError;
use crate::image::local::Image;
use crate::image::manifest::{self, Blob, Document, Entry, Manifest};
use crate::image::progress::{Progress, Step};
use crate::image::reference::Reference;
use crate::settings::Settings;
use crate::store::{Lease, NewNames, Store};

/// How deep indexes may lie in indexes.
const INDEX_DEPTH: u32 = 3;

/// One image that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The names that the archive gives it, in familiar form.
    pub names: Vec<String>,
}

/// Loads the images of an archive, or only those for one platform.
pub fn load(
    store: &Store,
    settings: &Settings,
    input: File,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, ImageError> {
    let archive = Tarball::open(store, input, settings.limits.layer_bytes)?;
    let lease = Lease::begin(store)?;
    let loader = Loader {
        store,
        settings,
        lease: &lease,
        archive: &archive,
        platform,
        progress,
    };
    if archive.has("manifest.json") {
        return noted(store, loader.docker()?);
    }
    if archive.has("index.json") {
        return noted(store, loader.layout()?);
    }
    Err(ImageError::Archive(match archive.is_empty() {
        true => "it is empty, or no tar archive".to_owned(),
        false => "it has neither manifest.json nor index.json, so no image was saved in it; \
                  `import` makes an image of any files"
            .to_owned(),
    }))
}

fn noted(store: &Store, loaded: Vec<Loaded>) -> Result<Vec<Loaded>, ImageError> {
    for one in &loaded {
        let id = one.image.id.to_string();
        let name = one.names.first().unwrap_or(&id);
        store.note("image", &id, &Note::new("load").with("name", name))?;
    }
    Ok(loaded)
}

struct Loader<'a> {
    store: &'a Store,
    settings: &'a Settings,
    lease: &'a Lease<'a>,
    archive: &'a Tarball,
    platform: Option<&'a Platform>,
    progress: &'a dyn Progress,
}

/// One image in docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl Loader<'_> {
    fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        self.archive.read(name, self.settings.limits.manifest_bytes)
    }

    /// Docker's own format.
    fn docker(&self) -> Result<Vec<Loaded>, ImageError> {
        let described: Vec<Described> = serde_json::from_slice(&self.document("manifest.json")?)
            .map_err(|error| ImageError::document("manifest.json", error))?;
        let originals = self.originals();
        let mut loaded = Vec::new();
        for image in described {
            let layers = image.layers.unwrap_or_default();
            let config = self.document(&image.config)?;
            let parsed = manifest::parse_config(&config, layers.len())?;
            if layers.len() > self.settings.limits.layers {
                return Err(too_many_layers(self.settings.limits.layers));
            }
            if self
                .platform
                .is_some_and(|wanted| !parsed.platform.serves(wanted))
            {
                continue;
            }
            let references = image
                .repo_tags
                .unwrap_or_default()
                .iter()
                .map(|tag| Ok(tag.parse::<Reference>()?.with_default_tag()))
                .collect::<Result<Vec<_>, ImageError>>()?;
            let mut added: BTreeMap<&str, Added> = BTreeMap::new();
            let mut all = Vec::new();
            for (name, diff_id) in layers.iter().zip(&parsed.diff_ids) {
                let layer = match added.get(name.as_str()) {
                    Some(layer) => layer.clone(),
                    None => self.layer(name, None, diff_id)?,
                };
                if layer.layer.diff_id != *diff_id {
                    return Err(ImageError::Digest {
                        what: format!("the layer {name:?}"),
                        expected: *diff_id,
                        actual: layer.layer.diff_id,
                    });
                }
                added.insert(name, layer.clone());
                all.push(layer);
            }
            let mut parts = Parts::without_manifest(config, &all)?;
            let blobs: Vec<Digest> = all.iter().map(|layer| layer.blob).collect();
            if let Some((bytes, original)) = originals.get(&Digest::of(&parts.config))
                && original.layers.iter().map(|layer| layer.digest).eq(blobs)
            {
                parts.manifest.clone_from(bytes);
            }
            loaded.push(self.finish(parts, references, None)?);
        }
        Ok(loaded)
    }

    /// The manifests that the OCI half of an archive has, by the configurations that they name.
    /// They are an extra here, so whatever is wrong with one just leaves it out.
    fn originals(&self) -> BTreeMap<Digest, (Vec<u8>, Manifest)> {
        let mut found = BTreeMap::new();
        let Ok(entries) = self.entries("index.json", None) else {
            return found;
        };
        for entry in entries {
            let digest = entry.manifest.digest;
            let Ok(bytes) = self.document(&blob_name(&digest)) else {
                continue;
            };
            let is_oci = entry.manifest.media_type == manifest::OCI_MANIFEST;
            if !is_oci || Digest::of(&bytes) != digest {
                continue;
            }
            if let Ok(Document::Manifest(original)) = manifest::parse(&bytes, None) {
                found.insert(original.config.digest, (bytes, original));
            }
        }
        found
    }

    fn entries(&self, name: &str, digest: Option<&Digest>) -> Result<Vec<Entry>, ImageError> {
        let bytes = self.document(name)?;
        verify(name, digest, &bytes)?;
        match manifest::parse(&bytes, None)? {
            Document::Index(entries) => Ok(entries),
            Document::Manifest(_) => {
                Err(ImageError::Archive(format!("{name} is no index of images")))
            }
        }
    }

    /// The OCI image layout.
    fn layout(&self) -> Result<Vec<Loaded>, ImageError> {
        let mut loaded = Vec::new();
        for entry in self.entries("index.json", None)? {
            // A name without a repository says nothing outside of the layout that it is in.
            let name = entry
                .name
                .as_deref()
                .filter(|name| name.contains([':', '/', '.']));
            let reference = name
                .and_then(|name| name.parse::<Reference>().ok())
                .map(Reference::with_default_tag);
            self.layout_entry(&entry, reference.as_ref(), INDEX_DEPTH, &mut loaded)?;
        }
        if loaded.is_empty() {
            return Err(ImageError::Archive(match self.platform {
                Some(platform) => format!("it has no image for {platform}"),
                None => "it has no image in it".to_owned(),
            }));
        }
        Ok(loaded)
    }

    fn layout_entry(
        &self,
        entry: &Entry,
        reference: Option<&Reference>,
        depth: u32,
        loaded: &mut Vec<Loaded>,
    ) -> Result<(), ImageError> {
        let digest = entry.manifest.digest;
        let name = blob_name(&digest);
        let unwanted = |platform: &Platform| {
            platform.os == "unknown" || self.platform.is_some_and(|it| !platform.serves(it))
        };
        if entry.platform.as_ref().is_some_and(unwanted) {
            return Ok(());
        }
        let bytes = self.document(&name)?;
        verify(&name, Some(&digest), &bytes)?;
        let found = match manifest::parse(&bytes, Some(&entry.manifest.media_type))? {
            Document::Manifest(found) => found,
            Document::Index(_) if depth == 0 => {
                return Err(ImageError::Archive(
                    "indexes of indexes without an end".to_owned(),
                ));
            }
            Document::Index(entries) => {
                // An index may list platforms whose content was left out of the archive.
                for inner in entries.iter().filter(|it| self.has(&it.manifest.digest)) {
                    self.layout_entry(inner, reference, depth - 1, loaded)?;
                }
                return Ok(());
            }
        };
        manifest::check_layers(&found, self.settings.limits.layers)?;
        let config_name = blob_name(&found.config.digest);
        let config = self.document(&config_name)?;
        verify(&config_name, Some(&found.config.digest), &config)?;
        let parsed = manifest::parse_config(&config, found.layers.len())?;
        if self
            .platform
            .is_some_and(|wanted| entry.platform.is_none() && !parsed.platform.serves(wanted))
        {
            return Ok(());
        }
        for (layer, diff_id) in found.layers.iter().zip(&parsed.diff_ids) {
            self.layer(&blob_name(&layer.digest), Some(layer), diff_id)?;
        }
        let layers = found.layers.iter().map(|layer| layer.digest);
        let parts = Parts {
            layers: parsed.diff_ids.iter().copied().zip(layers).collect(),
            config,
            parsed,
            manifest: bytes,
            manifest_type: match entry.manifest.media_type.as_str() {
                manifest::DOCKER_MANIFEST => manifest::DOCKER_MANIFEST.to_owned(),
                _ => manifest::OCI_MANIFEST.to_owned(),
            },
        };
        let platform = entry.platform.as_ref().map(Platform::to_string);
        loaded.push(self.finish(parts, reference.cloned().into_iter().collect(), platform)?);
        Ok(())
    }

    fn has(&self, digest: &Digest) -> bool {
        self.archive.has(&blob_name(digest))
    }

    /// Stores one layer, unless it is there.
    fn layer(
        &self,
        name: &str,
        blob: Option<&Blob>,
        diff_id: &Digest,
    ) -> Result<Added, ImageError> {
        // In archives of either kind that current tools write, names are digests.
        let named = name
            .strip_prefix("blobs/sha256/")
            .map(|hex| format!("sha256:{hex}").parse());
        let digest = blob.map(|blob| blob.digest).or_else(|| named?.ok());
        if let Some(digest) = digest
            && let Some(known) = convert::claim(self.store, self.lease, &digest, diff_id)?
        {
            return Ok(known);
        }
        let mut input = self.archive.reader(name)?;
        let (short, size) = (diff_id.short(), input.size());
        self.progress.layer(&short, Step::Downloading(0, size));
        let limits = convert::limits(&self.settings.limits);
        let expected = Expected {
            blob,
            diff_id: Some(diff_id),
        };
        let added = convert::add_layer(self.store, self.lease, &limits, &mut input, expected)?;
        self.progress.layer(&short, Step::PullComplete);
        Ok(added)
    }

    fn finish(
        &self,
        parts: Parts,
        references: Vec<Reference>,
        platform: Option<String>,
    ) -> Result<Loaded, ImageError> {
        let names = NewNames {
            platform,
            references: references.iter().map(Reference::canonical).collect(),
            ..NewNames::default()
        };
        let (image, _) = assemble::store(self.store, self.lease, parts, &names)?;
        Ok(Loaded {
            image,
            names: references.iter().map(Reference::to_string).collect(),
        })
    }
}

fn too_many_layers(limit: usize) -> ImageError {
    ImageError::Archive(format!(
        "an image in it has more than {limit} layers (limits.layers in the settings)"
    ))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn verify(name: &str, expected: Option<&Digest>, bytes: &[u8]) -> Result<(), ImageError> {
    let actual = Digest::of(bytes);
    match expected {
        Some(expected) if *expected != actual => Err(ImageError::Digest {
            what: name.to_owned(),
            expected: *expected,
            actual,
        }),
        _ => Ok(()),
    }
}
