//! `save`: images from the store into an archive that `load`, docker and OCI tools read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::arch::Platform;
use crate::events::Note;
use crate::image::digest::Digest;
use crate::image::error::ImageError;
use crate::image::local::{self, Image};
use crate::image::manifest::{self, Document, OCI_INDEX};
use crate::image::reference::Reference;
use crate::store::{Store, StoreError};

/// An image to save, and the names to save it under.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The image.
    pub image: Image,
    /// Its names in the archive; none when it was asked for by identifier.
    pub names: Vec<Reference>,
}

/// What these names mean: images by identifier, by name, or all tags of a repository.
pub fn select(
    store: &Store,
    names: &[String],
    platform: Option<&Platform>,
) -> Result<Vec<Selection>, ImageError> {
    let mut selected: Vec<Selection> = Vec::new();
    for name in names {
        for (image, reference) in resolve(store, name, platform)? {
            let known = selected.iter_mut().find(|it| it.image.id == image.id);
            match known {
                Some(known) => known.names.extend(reference),
                None => {
                    selected.push(Selection {
                        image,
                        names: reference.into_iter().collect(),
                    });
                }
            }
        }
    }
    for selection in &mut selected {
        selection.names.sort();
        selection.names.dedup();
    }
    Ok(selected)
}

fn resolve(
    store: &Store,
    name: &str,
    platform: Option<&Platform>,
) -> Result<Vec<(Image, Option<Reference>)>, ImageError> {
    let reference = name
        .parse::<Reference>()
        .ok()
        .filter(|it| it.digest().is_none());
    if let Some(reference) = reference {
        let mut tags: BTreeSet<Reference> = BTreeSet::new();
        for known in store.names()? {
            let Ok(known) = known.reference.parse::<Reference>() else {
                continue;
            };
            let same_tag = reference.tag().is_none() || reference.tag() == known.tag();
            if known.canonical_name() == reference.canonical_name() && same_tag {
                tags.insert(known);
            }
        }
        let mut found = Vec::new();
        for tag in tags {
            if let Some(image) = local::find(store, &tag.to_string(), platform)? {
                found.push((image, Some(tag)));
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(vec![(local::get(store, name, platform)?, None)])
}

/// Writes an archive with these images.
pub fn save(store: &Store, images: &[Selection], output: impl Write) -> Result<(), ImageError> {
    let mut writer = Writer {
        store,
        archive: Builder::new(output),
        written: BTreeSet::new(),
    };
    writer.directory("blobs/")?;
    writer.directory("blobs/sha256/")?;
    let (mut index, mut docker) = (Vec::new(), Vec::new());
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for Selection { image, names } in images {
        let id = image.id.to_string();
        store.note("image", &id, &Note::new("save").with("name", &id))?;
        let Document::Manifest(found) =
            manifest::parse(&image.manifest, Some(&image.manifest_type))?
        else {
            return Err(ImageError::document("image manifest", "it is an index"));
        };
        for layer in &found.layers {
            writer.blob(&layer.digest)?;
        }
        writer.bytes(&blob_name(&image.id), &image.raw_config)?;
        let digest = Digest::of(&image.manifest);
        writer.bytes(&blob_name(&digest), &image.manifest)?;
        let mut platform =
            json!({"architecture": image.platform.architecture, "os": image.platform.os});
        if let (Some(variant), Value::Object(map)) = (&image.platform.variant, &mut platform) {
            map.insert("variant".to_owned(), Value::from(variant.clone()));
        }
        let entry = json!({
            "mediaType": image.manifest_type,
            "digest": digest,
            "size": image.manifest.len(),
            "platform": platform,
        });
        if names.is_empty() {
            index.push(entry.clone());
        }
        for name in names {
            let mut named = entry.clone();
            named["annotations"] = json!({
                "io.containerd.image.name": name.canonical(),
                "org.opencontainers.image.ref.name": name.tag().unwrap_or_default(),
            });
            index.push(named);
            let top = image.layers.last().map(Digest::hex).unwrap_or_default();
            repositories
                .entry(name.familiar_name())
                .or_default()
                .insert(name.tag().unwrap_or_default().to_owned(), top);
        }
        let layers: Vec<String> = found
            .layers
            .iter()
            .map(|layer| blob_name(&layer.digest))
            .collect();
        let tags: Vec<String> = names.iter().map(Reference::to_string).collect();
        docker.push(json!({
            "Config": blob_name(&image.id),
            "RepoTags": if tags.is_empty() { Value::Null } else { tags.into() },
            "Layers": layers,
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index});
    writer.bytes("index.json", index.to_string().as_bytes())?;
    writer.bytes("manifest.json", Value::from(docker).to_string().as_bytes())?;
    writer.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    if !repositories.is_empty() {
        writer.bytes("repositories", json!(repositories).to_string().as_bytes())?;
    }
    writer
        .archive
        .into_inner()
        .and_then(|mut output| output.flush())
        .map_err(write_error)
}

fn write_error(source: io::Error) -> ImageError {
    ImageError::io("write the archive", source)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

struct Writer<'a, W: Write> {
    store: &'a Store,
    archive: Builder<W>,
    written: BTreeSet<String>,
}

impl<W: Write> Writer<'_, W> {
    fn directory(&mut self, name: &str) -> Result<(), ImageError> {
        self.entry(name, EntryType::Directory, 0o755, 0, io::empty())
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        if !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        self.entry(name, EntryType::Regular, 0o644, bytes.len() as u64, bytes)
    }

    fn blob(&mut self, digest: &Digest) -> Result<(), ImageError> {
        let name = blob_name(digest);
        if !self.written.insert(name.clone()) {
            return Ok(());
        }
        let path = self.store.blob_path(digest);
        let fail = |source| StoreError::io("open", &path, source);
        let file = File::open(&path).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        self.entry(&name, EntryType::Regular, 0o644, size, file)
    }

    /// Times and owners are always the same, so that the same images give the same archive.
    fn entry(
        &mut self,
        name: &str,
        kind: EntryType,
        mode: u32,
        size: u64,
        content: impl Read,
    ) -> Result<(), ImageError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        self.archive
            .append_data(&mut header, name, content)
            .map_err(write_error)
    }
}
