//! Pulling: from a reference to an image in the store.
//!
//! The addresses of a registry are tried in order. At one address, the manifest and the
//! configuration say what the image consists of; then a few threads fetch layers side by side,
//! each verifying, converting and storing its layer while the bytes arrive. The image gets its
//! row and its name last, so that what is visible is always whole.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::assemble::{self, Parts};
use super::convert::{self, Expected};
use super::digest::Digest;
use super::error::ImageError;
use super::local::{self, Image};
use super::manifest::{self, Blob, Config, Document, Manifest};
use super::parallel::{self, Stop};
use super::progress::{Progress, Step};
use super::reference::Reference;
use super::registry::{Access, Endpoint, Fetched, RegistryError, Session, Source, endpoints};
use crate::arch::Platform;
use crate::events::Note;
use crate::settings::Settings;
use crate::store::{Lease, NewNames, Store};

/// How deep indexes may lie in indexes.
const INDEX_DEPTH: u32 = 3;

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
    for endpoint in endpoints(&task.reference, settings) {
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
    for endpoint in endpoints(reference, settings) {
        match task.pull_from(&endpoint) {
            Ok(pulled) => return Ok(pulled.image),
            Err(error) if error.is_local() => return Err(error),
            Err(error) => errors.push(error),
        }
    }
    Err(most_telling(errors).unwrap_or_else(|| local::not_found(&reference.to_string())))
}

/// The document that a registry has under a name; none when it has none.
pub fn index(settings: &Settings, reference: &Reference) -> Result<Option<Vec<u8>>, ImageError> {
    let runtime = runtime()?;
    let mut errors = Vec::new();
    for endpoint in endpoints(reference, settings) {
        let found = runtime.block_on(async {
            let session = Session::open(&endpoint, reference, Access::Pull).await?;
            let limit = settings.limits.manifest_bytes;
            session.manifest(reference, limit).await
        });
        match found {
            Ok(found) => return Ok(Some(found.bytes)),
            Err(RegistryError::ManifestUnknown { .. }) => {}
            Err(error) => errors.push(error.into()),
        }
    }
    most_telling(errors).map_or(Ok(None), Err)
}

/// Every tag that a registry has of this repository.
pub fn tags(settings: &Settings, repository: &Reference) -> Result<Vec<Reference>, ImageError> {
    const MOST: usize = 10_000;
    let runtime = runtime()?;
    let mut errors = Vec::new();
    for endpoint in endpoints(repository, settings) {
        let listed = runtime.block_on(async {
            let session = Session::open(&endpoint, repository, Access::Pull).await?;
            session.tags(MOST, settings.limits.manifest_bytes).await
        });
        match listed {
            Ok(tags) => {
                let name = repository.canonical_name();
                return tags
                    .iter()
                    .map(|tag| Ok(format!("{name}:{tag}").parse()?))
                    .collect();
            }
            Err(error) => errors.push(error.into()),
        }
    }
    Err(most_telling(errors).unwrap_or_else(|| local::not_found(&repository.to_string())))
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

/// What the registry has under the reference, for one platform.
struct Resolved {
    top: Digest,
    document: Fetched,
    manifest: Manifest,
    config: Vec<u8>,
    parsed: Config,
    /// The platform that an index lists the image under.
    listed: Option<Platform>,
}

struct Job {
    blob: Blob,
    diff_id: Digest,
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

    /// Finds the manifest for the platform, and its configuration.
    async fn resolve(&self, session: &Session) -> Result<Resolved, ImageError> {
        let limits = &self.settings.limits;
        let wanted = self
            .platform
            .cloned()
            .unwrap_or_else(|| self.settings.platform());
        let mut document = session
            .manifest(&self.reference, limits.manifest_bytes)
            .await?;
        let top = document.digest;
        let mut listed = None;
        for _ in 0..=INDEX_DEPTH {
            let entries = match manifest::parse(&document.bytes, document.media_type.as_deref())? {
                Document::Index(entries) => entries,
                Document::Manifest(found) => {
                    manifest::check_layers(&found, limits.layers)?;
                    let digest = found.config.digest;
                    let config = match self.store.image(&digest)? {
                        Some(image) => image.config,
                        None => session.small_blob(&digest, limits.manifest_bytes).await?,
                    };
                    let parsed = manifest::parse_config(&config, found.layers.len())?;
                    self.check_platform(&parsed.platform, listed.as_ref())?;
                    return Ok(Resolved {
                        top,
                        document,
                        manifest: found,
                        config,
                        parsed,
                        listed,
                    });
                }
            };
            let entry = manifest::select(&entries, &wanted)?;
            listed = entry.platform.clone().or(listed);
            let reference = self.reference.at_digest(entry.manifest.digest);
            document = session.manifest(&reference, limits.manifest_bytes).await?;
        }
        Err(ImageError::document(
            "image manifest",
            "indexes of indexes without an end",
        ))
    }

    /// Refuses an image for another platform than was asked for, unless an index listed it.
    fn check_platform(
        &self,
        actual: &Platform,
        listed: Option<&Platform>,
    ) -> Result<(), ImageError> {
        match (self.platform, listed) {
            (Some(wanted), None) if !actual.serves(wanted) => Err(ImageError::PlatformMismatch {
                reference: self.reference.to_string(),
                actual: Box::new(actual.clone()),
                wanted: Box::new(wanted.clone()),
            }),
            _ => Ok(()),
        }
    }

    /// Fetches layers side by side; the first error stops all.
    fn fetch_layers(
        &self,
        session: &Arc<Session>,
        lease: &Lease<'_>,
        jobs: Vec<Job>,
    ) -> Result<(), ImageError> {
        let threads = self.settings.limits.parallel_downloads;
        parallel::run(threads, jobs, |job, stop| {
            self.fetch_layer(session, lease, &job, stop)
        })
    }

    fn fetch_layer(
        &self,
        session: &Arc<Session>,
        lease: &Lease<'_>,
        job: &Job,
        stop: &Stop,
    ) -> Result<(), ImageError> {
        let (name, size) = (job.blob.digest.short(), job.blob.size);
        let _lock = self.store.lock_digest(&job.blob.digest, || {
            self.progress.layer(&name, Step::Waiting)
        })?;
        if self
            .store
            .claim_blob(lease, &job.blob.digest, &job.diff_id)?
            .is_some()
        {
            self.progress.layer(&name, Step::AlreadyExists);
            return Ok(());
        }
        self.progress.layer(&name, Step::Downloading(0, size));
        let source = Source::fetch(self.runtime.handle(), Arc::clone(session), job.blob.clone());
        let mut input = Watched {
            source,
            name: &name,
            size,
            done: 0,
            stop,
            progress: self.progress,
        };
        let limits = convert::limits(&self.settings.limits);
        let expected = Expected {
            blob: Some(&job.blob),
            diff_id: Some(&job.diff_id),
        };
        let added = convert::add_layer(self.store, lease, &limits, &mut input, expected);
        if let Some(failure) = input.source.take_failure() {
            return Err(failure.into());
        }
        added?;
        self.progress.layer(&name, Step::PullComplete);
        Ok(())
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

/// Each layer once, with what it must contain.
fn jobs(resolved: &Resolved) -> Result<Vec<Job>, ImageError> {
    let mut seen = BTreeMap::new();
    let mut jobs = Vec::new();
    for (blob, diff_id) in resolved
        .manifest
        .layers
        .iter()
        .zip(&resolved.parsed.diff_ids)
    {
        match seen.insert(blob.digest, *diff_id) {
            None => jobs.push(Job {
                blob: blob.clone(),
                diff_id: *diff_id,
            }),
            Some(before) if before == *diff_id => {}
            Some(_) => {
                return Err(ImageError::document(
                    "image configuration",
                    format!("it gives layer {} two contents", blob.digest.short()),
                ));
            }
        }
    }
    Ok(jobs)
}

/// A layer as it arrives, telling how far it is and stopping when the others failed.
struct Watched<'a> {
    source: Source,
    name: &'a str,
    size: u64,
    done: u64,
    stop: &'a Stop,
    progress: &'a dyn Progress,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_set() {
            return Err(self.stop.error());
        }
        let count = self.source.read(buffer)?;
        if self.source.take_retry() {
            self.progress.layer(self.name, Step::Retrying);
        }
        self.done += count as u64;
        self.progress
            .layer(self.name, Step::Downloading(self.done, self.size));
        Ok(count)
    }
}
