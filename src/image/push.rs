//! Pushing: sending an image's layers, configuration and manifest to a registry.

use std::fs::File;
use std::io::Cursor;

use super::digest::Digest;
use super::error::ImageError;
use super::local::{self, Image};
use super::manifest::{self, Document};
use super::parallel;
use super::progress::{Progress, Step};
use super::reference::Reference;
use super::registry::{Access, Content, Endpoint, Session, endpoints};
use crate::arch::Platform;
use crate::events::Note;
use crate::settings::Settings;
use crate::store::{Store, StoreError};

/// Sends the image of this name to its registry; mirrors are for reading only. The digest of the
/// manifest comes back.
pub fn push(
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
    let image = local::find(store, &reference.to_string(), platform)?
        .ok_or_else(|| ImageError::NoTag(reference.familiar_name()))?;
    let runtime = super::pull::runtime()?;
    let origin = endpoints(&reference, settings)
        .into_iter()
        .find(|it| it.is_origin);
    let origin: Endpoint = origin.ok_or_else(|| local::not_found(&reference.to_string()))?;
    let session = runtime.block_on(Session::open(&origin, &reference, Access::Push))?;
    let Document::Manifest(found) = manifest::parse(&image.manifest, Some(&image.manifest_type))?
    else {
        return Err(ImageError::document("image manifest", "it is an index"));
    };
    let mut layers = found.layers;
    layers.sort_by_key(|layer| layer.digest);
    layers.dedup_by_key(|layer| layer.digest);
    for layer in &layers {
        progress.layer(&layer.digest.short(), Step::Preparing);
    }
    parallel::run(settings.limits.parallel_downloads, layers, |layer, stop| {
        let name = layer.digest.short();
        if runtime.block_on(session.has_blob(&layer.digest))? {
            progress.layer(&name, Step::LayerExists);
            return Ok(());
        }
        let path = store.blob_path(&layer.digest);
        File::open(&path).map_err(|source| StoreError::io("open", &path, source))?;
        let open = || File::open(&path).map(|file| Box::new(file) as Content);
        let told = |sent| progress.layer(&name, Step::Pushing(sent, layer.size));
        runtime.block_on(session.push_blob(&layer.digest, layer.size, &open, &told))?;
        if !stop.is_set() {
            progress.layer(&name, Step::Pushed);
        }
        Ok(())
    })?;
    runtime.block_on(push_config(&session, &image, found.config.size))?;
    runtime.block_on(session.push_manifest(tag, &image.manifest_type, &image.manifest))?;
    let digest = Digest::of(&image.manifest);
    store.add_repo_digest(&reference.canonical_name(), &digest, &image.id)?;
    let name = reference.to_string();
    store.note("image", &name, &Note::new("push").with("name", &name))?;
    progress.line(&format!(
        "{tag}: digest: {digest} size: {}",
        image.manifest.len()
    ));
    Ok(digest)
}

async fn push_config(session: &Session, image: &Image, size: u64) -> Result<(), ImageError> {
    if session.has_blob(&image.id).await? {
        return Ok(());
    }
    let open = || Ok(Box::new(Cursor::new(image.raw_config.clone())) as Content);
    Ok(session.push_blob(&image.id, size, &open, &|_| {}).await?)
}
