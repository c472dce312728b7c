//! Pushing: sending an image's layers, configuration and manifest to a registry.

use std::fs::File;
use std::io::Cursor;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::digest::Digest;
use super::error::ImageError;
use super::local::{self, Image};
use super::manifest::{self, Document};
use super::parallel;
use super::progress::{Progress, Silent, Step};
use super::reference::Reference;
use super::registry::{Access, Content, Credentials, Endpoint, Session, endpoints};
use crate::arch::Platform;
use crate::events::Note;
use crate::settings::Settings;
use crate::store::{Store, StoreError};

/// Sends the image of this name to its registry; mirrors are for reading only. Where the name
/// stands for images of several platforms and none is asked for, all of them go, with an index.
/// The digest of the manifest or index comes back.
pub fn push(
    store: &Store,
    settings: &Settings,
    reference: &Reference,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Digest, ImageError> {
    push_as(None, store, settings, reference, platform, progress)
}

/// The same as somebody in particular, and not as the user whose credentials docker keeps.
pub fn push_as(
    credentials: Option<&Credentials>,
    store: &Store,
    settings: &Settings,
    reference: &Reference,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Digest, ImageError> {
    let reference = reference.clone().with_default_tag();
    let Some(tag) = reference.tag().filter(|_| reference.digest().is_none()) else {
        return Err(ImageError::Usage(
            "cannot push a digest reference".to_owned(),
        ));
    };
    progress.line(&format!(
        "The push refers to repository [{}]",
        reference.canonical_name()
    ));
    let images = images(store, &reference, platform)?;
    let runtime = super::pull::runtime()?;
    let session = open(&runtime, settings, &reference, credentials)?;
    let pusher = Pusher {
        store,
        runtime: &runtime,
        session: &session,
        threads: settings.limits.parallel_downloads,
        progress,
    };
    let (digest, size) = match images.as_slice() {
        [(_, image)] => {
            pusher.image(image, tag)?;
            (Digest::of(&image.manifest), image.manifest.len())
        }
        several => pusher.index(several, tag)?,
    };
    for (_, image) in &images {
        store.add_repo_digest(&reference.canonical_name(), &digest, &image.id)?;
    }
    let name = reference.to_string();
    store.note("image", &name, &Note::new("push").with("name", &name))?;
    progress.line(&format!("{tag}: digest: {digest} size: {size}"));
    Ok(digest)
}

/// Sends images and an index of them, which gets the name.
pub fn push_index(
    store: &Store,
    settings: &Settings,
    reference: &Reference,
    images: &[Image],
    index: &Value,
) -> Result<(), ImageError> {
    let Some(tag) = reference.tag().filter(|_| reference.digest().is_none()) else {
        return Err(ImageError::Usage(
            "cannot push a digest reference".to_owned(),
        ));
    };
    let runtime = super::pull::runtime()?;
    let session = open(&runtime, settings, reference, None)?;
    let pusher = Pusher {
        store,
        runtime: &runtime,
        session: &session,
        threads: settings.limits.parallel_downloads,
        progress: &Silent,
    };
    for image in images {
        pusher.image(image, &Digest::of(&image.manifest).to_string())?;
    }
    let bytes = index.to_string();
    let sent = session.push_manifest(tag, manifest::OCI_INDEX, bytes.as_bytes());
    Ok(runtime.block_on(sent)?)
}

/// A conversation with the registry itself.
fn open(
    runtime: &Runtime,
    settings: &Settings,
    reference: &Reference,
    credentials: Option<&Credentials>,
) -> Result<Session, ImageError> {
    let origin = endpoints(reference, settings, credentials)
        .into_iter()
        .find(|it| it.is_origin);
    let origin: Endpoint = origin.ok_or_else(|| local::not_found(&reference.to_string()))?;
    Ok(runtime.block_on(Session::open(&origin, reference, Access::Push))?)
}

/// The images that a name stands for, with their platforms: one when a platform is asked for.
fn images(
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Vec<(Platform, Image)>, ImageError> {
    let missing = || ImageError::NoTag(reference.familiar_name());
    if platform.is_none() {
        let mut images = Vec::new();
        for name in store.names_like(&reference.canonical())? {
            let image = local::load(store, &name.image)?.ok_or_else(missing)?;
            images.push((name.platform.parse()?, image));
        }
        if !images.is_empty() {
            return Ok(images);
        }
    }
    let image = local::find(store, &reference.to_string(), platform)?.ok_or_else(missing)?;
    Ok(vec![(image.platform.clone(), image)])
}

struct Pusher<'a> {
    store: &'a Store,
    runtime: &'a Runtime,
    session: &'a Session,
    threads: usize,
    progress: &'a dyn Progress,
}

impl Pusher<'_> {
    /// Sends an image's layers, configuration and manifest; the manifest under this name.
    fn image(&self, image: &Image, name: &str) -> Result<(), ImageError> {
        let Document::Manifest(found) =
            manifest::parse(&image.manifest, Some(&image.manifest_type))?
        else {
            return Err(ImageError::document("image manifest", "it is an index"));
        };
        let mut layers = found.layers;
        layers.sort_by_key(|layer| layer.digest);
        layers.dedup_by_key(|layer| layer.digest);
        for layer in &layers {
            self.progress.layer(&layer.digest.short(), Step::Preparing);
        }
        parallel::run(self.threads, layers, |layer, stop| {
            let name = layer.digest.short();
            if self
                .runtime
                .block_on(self.session.has_blob(&layer.digest))?
            {
                self.progress.layer(&name, Step::LayerExists);
                return Ok(());
            }
            let path = self.store.blob_path(&layer.digest);
            File::open(&path).map_err(|source| StoreError::io("open", &path, source))?;
            let open = || File::open(&path).map(|file| Box::new(file) as Content);
            let told = |sent| self.progress.layer(&name, Step::Pushing(sent, layer.size));
            self.runtime.block_on(self.session.push_blob(
                &layer.digest,
                layer.size,
                &open,
                &told,
            ))?;
            if !stop.is_set() {
                self.progress.layer(&name, Step::Pushed);
            }
            Ok(())
        })?;
        self.runtime
            .block_on(push_config(self.session, image, found.config.size))?;
        let sent = self
            .session
            .push_manifest(name, &image.manifest_type, &image.manifest);
        Ok(self.runtime.block_on(sent)?)
    }

    /// Sends the images of several platforms and an index of them.
    fn index(
        &self,
        images: &[(Platform, Image)],
        tag: &str,
    ) -> Result<(Digest, usize), ImageError> {
        let mut entries = Vec::new();
        for (platform, image) in images {
            let digest = Digest::of(&image.manifest);
            self.image(image, &digest.to_string())?;
            let mut entry = json!({
                "mediaType": image.manifest_type,
                "digest": digest,
                "size": image.manifest.len(),
                "platform": {"architecture": platform.architecture, "os": platform.os},
            });
            if let Some(variant) = &platform.variant {
                entry["platform"]["variant"] = variant.clone().into();
            }
            entries.push(entry);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": manifest::OCI_INDEX,
            "manifests": entries,
        });
        let bytes = index.to_string().into_bytes();
        let sent = self.session.push_manifest(tag, manifest::OCI_INDEX, &bytes);
        self.runtime.block_on(sent)?;
        Ok((Digest::of(&bytes), bytes.len()))
    }
}

async fn push_config(session: &Session, image: &Image, size: u64) -> Result<(), ImageError> {
    if session.has_blob(&image.id).await? {
        return Ok(());
    }
    let open = || Ok(Box::new(Cursor::new(image.raw_config.clone())) as Content);
    Ok(session.push_blob(&image.id, size, &open, &|_| {}).await?)
}
