//! Pulling: from a reference to an image in the store.
//!
//! The addresses of a registry are tried in order. At one address, the manifest and the
//! configuration say what the image consists of; then a few threads fetch layers side by side,
//! each verifying, converting and storing its layer while the bytes arrive. The image gets its
//! row and its name last, so that what is visible is always whole.

mod ask;
mod fetch;
mod resolve;

use std::sync::Arc;

use tokio::runtime::Runtime;

use super::assemble::{self, Parts};
use super::digest::Digest;
use super::error::ImageError;
use super::local::{self, Image};
use super::manifest;
use super::progress::{Progress, Step};
use super::reference::Reference;
use super::registry::{Access, Credentials, Endpoint, RegistryError, Session, endpoints};
use crate::arch::Platform;
use crate::events::Note;
use crate::settings::Settings;
use crate::store::{Lease, NewNames, Store};

pub use ask::{index, tags, tags_as};
use resolve::{Resolved, jobs};

/// The outcome of a pull.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// The digest of what the reference stands for at the registry: a manifest or an index.
    pub digest: Digest,
    /// Whether the image, or its name, was not here before.
    pub is_new: bool,
}

/// When to ask the registry for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// When it is not here.
    #[default]
    Missing,
    /// Always, to have the newest.
    Always,
    /// Never.
    Never,
}

impl std::str::FromStr for PullPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "missing" => Ok(Self::Missing),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(format!(
                "invalid pull option: '{text}': must be one of \"always\", \"missing\" or \"never\""
            )),
        }
    }
}

/// The image that `name` means, pulled first where the policy asks for it, as `docker run` does.
///
/// Without a `platform` the settings' is meant; but when only an image for another platform is
/// here and the registry has none for this one, or cannot be asked, that image will do.
pub fn ensure(
    store: &Store,
    settings: &Settings,
    name: &str,
    platform: Option<&Platform>,
    policy: PullPolicy,
    progress: &dyn Progress,
) -> Result<Image, ImageError> {
    let wanted = platform.cloned().unwrap_or_else(|| settings.platform());
    let here = local::find(store, name, Some(&wanted))?;
    let any = || match platform {
        None => local::find(store, name, None),
        Some(_) => Ok(None),
    };
    match (here, policy) {
        (Some(image), PullPolicy::Missing | PullPolicy::Never) => return Ok(image),
        (None, PullPolicy::Never) => return any()?.ok_or_else(|| local::not_found(name)),
        _ => {}
    }
    let reference = name.parse::<Reference>()?.with_default_tag();
    if policy == PullPolicy::Missing {
        progress.line(&format!("Unable to find image '{reference}' locally"));
    }
    match pull(store, settings, &reference, platform, progress) {
        Ok(pulled) => Ok(pulled.image),
        Err(error) if policy == PullPolicy::Missing && !error.is_local() => any()?.ok_or(error),
        Err(error) => Err(error),
    }
}

/// Fetches an image and names it. Without a `platform` the settings' is meant, and an image that
/// exists for one other platform only is fetched all the same.
pub fn pull(
    store: &Store,
    settings: &Settings,
    reference: &Reference,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Pulled, ImageError> {
    pull_as(None, store, settings, reference, platform, progress)
}

/// The same as somebody in particular, and not as the user whose credentials docker keeps.
pub fn pull_as(
    credentials: Option<&Credentials>,
    store: &Store,
    settings: &Settings,
    reference: &Reference,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Pulled, ImageError> {
    let reference = reference.clone().with_default_tag();
    let shown = match reference.digest() {
        Some(_) => reference.canonical(),
        None => reference.tag().unwrap_or_default().to_owned(),
    };
    progress.line(&format!("{shown}: Pulling from {}", reference.repository()));
    let runtime = runtime()?;
    let task = Task {
        store,
        settings,
        reference,
        platform,
        nameless: false,
        progress,
        runtime,
    };
    let mut errors = Vec::new();
    for endpoint in endpoints(&task.reference, settings, credentials) {
        match task.pull_from(&endpoint) {
            Ok(pulled) => {
                progress.line(&format!("Digest: {}", pulled.digest));
                let status = match pulled.is_new {
                    true => "Downloaded newer image for",
                    false => "Image is up to date for",
                };
                progress.line(&format!("Status: {status} {}", task.reference));
                let name = task.reference.to_string();
                store.note("image", &name, &Note::new("pull").with("name", &name))?;
                return Ok(pulled);
            }
            Err(error) if error.is_local() => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    Err(most_telling(errors).unwrap_or_else(|| local::not_found(&task.reference.to_string())))
}

/// Fetches an image by the digest of its manifest, without a name for it.
pub fn pull_nameless(
    store: &Store,
    settings: &Settings,
    reference: &Reference,
    progress: &dyn Progress,
) -> Result<Image, ImageError> {
    let task = Task {
        store,
        settings,
        reference: reference.clone(),
        platform: None,
        nameless: true,
        progress,
        runtime: runtime()?,
    };
    let mut errors = Vec::new();
    for endpoint in endpoints(reference, settings, None) {
        match task.pull_from(&endpoint) {
            Ok(pulled) => return Ok(pulled.image),
            Err(error) if error.is_local() => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    Err(most_telling(errors).unwrap_or_else(|| local::not_found(&reference.to_string())))
}

/// The threads that talk to the network for as long as a pull or push lasts.
pub(super) fn runtime() -> Result<Runtime, ImageError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| ImageError::io("start the network threads", source))
}

/// Of what several addresses said, the last that came from a registry and not from the network.
fn most_telling(errors: Vec<ImageError>) -> Option<ImageError> {
    let silent = |error: &ImageError| {
        matches!(
            error,
            ImageError::Registry(RegistryError::Unreachable { .. })
        )
    };
    let (silent, mut told): (Vec<_>, Vec<_>) = errors.into_iter().partition(silent);
    told.pop().or_else(|| silent.into_iter().next_back())
}

struct Task<'a> {
    store: &'a Store,
    settings: &'a Settings,
    reference: Reference,
    platform: Option<&'a Platform>,
    /// Whether nothing is to remember where the image came from.
    nameless: bool,
    progress: &'a dyn Progress,
    runtime: Runtime,
}

impl Task<'_> {
    fn pull_from(&self, endpoint: &Endpoint) -> Result<Pulled, ImageError> {
        let session =
            self.runtime
                .block_on(Session::open(endpoint, &self.reference, Access::Pull))?;
        let session = Arc::new(session);
        let resolved = self.runtime.block_on(self.resolve(&session))?;
        let jobs = jobs(&resolved)?;
        let lease = Lease::begin(self.store)?;
        let id = resolved.manifest.config.digest;
        let known = self.store.image(&id)?.is_some();
        let mut missing = Vec::new();
        for job in jobs {
            let here = self
                .store
                .claim_blob(&lease, &job.blob.digest, &job.diff_id)?
                .is_some();
            if !known || !here {
                let step = if here {
                    Step::AlreadyExists
                } else {
                    Step::Queued
                };
                self.progress.layer(&job.blob.digest.short(), step);
            }
            if !here {
                missing.push(job);
            }
        }
        self.fetch_layers(&session, &lease, missing)?;
        self.finish(&lease, resolved)
    }

    /// Stores and names the image, all of whose layers are claimed.
    fn finish(&self, lease: &Lease<'_>, resolved: Resolved) -> Result<Pulled, ImageError> {
        let kind = match &resolved.document.media_type {
            Some(kind) if kind == manifest::DOCKER_MANIFEST => kind.clone(),
            _ => manifest::OCI_MANIFEST.to_owned(),
        };
        let mut names = NewNames {
            platform: resolved.listed.map(|platform| platform.to_string()),
            ..NewNames::default()
        };
        if !self.nameless {
            let name = self.reference.canonical_name();
            names.digests.push((name, resolved.top));
        }
        let id = resolved.manifest.config.digest;
        let mut is_new = true;
        if self.reference.digest().is_none() {
            let reference = self.reference.canonical();
            is_new = !self
                .store
                .names_like(&reference)?
                .iter()
                .any(|name| name.image == id);
            names.references.push(reference);
        }
        let layers = resolved.manifest.layers.iter().map(|layer| layer.digest);
        let parts = Parts {
            config: resolved.config,
            layers: resolved
                .parsed
                .diff_ids
                .iter()
                .copied()
                .zip(layers)
                .collect(),
            parsed: resolved.parsed,
            manifest: resolved.document.bytes,
            manifest_type: kind,
        };
        let (image, added) = assemble::store(self.store, lease, parts, &names)?;
        is_new &= added || self.reference.digest().is_none();
        Ok(Pulled {
            image,
            digest: resolved.top,
            is_new,
        })
    }
}
