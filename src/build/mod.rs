//! `hull build`: from a Dockerfile and a context to images, one per step.
//!
//! [`dockerfile`] reads, [`plan`] decides which stages are needed and what they wait for,
//! [`schedule`] runs them side by side, [`stage`] carries their steps out. A step that changes
//! files makes a layer: `COPY`, `ADD` and `WORKDIR` on the host ([`copy`]), `RUN` in the stage's
//! guest ([`guest`]). Every step is an image in the store the moment it is done, which is also
//! the cache: an image's id says everything that went into it.

mod cache;
pub mod copy;
pub mod dockerfile;
mod error;
pub mod files;
pub mod guest;
pub mod layer;
mod network;
pub mod plain;
mod plan;
mod prepare;
mod remote;
mod report;
mod schedule;
mod ssh;
mod stage;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

pub use cache::{Place as CachePlace, place as cache_place};
pub use error::BuildError;
pub use prepare::{Location, Prepared, from_stream, named_context, prepare};
pub use report::{Event, Report};

use crate::arch::Platform;
use crate::container::record::{Config, now_ns};
use crate::image::digest::Digest;
use crate::image::{Budget, Filter, Image, ImageError, Reference, shrink_builds};
use crate::settings::Settings;
use crate::store::{Lease, Store};
use dockerfile::Source;
use files::SharedTree;

/// When every file was last changed and every image was made, unless somebody says otherwise:
/// the beginning of 1980, the first time that a zip archive can hold.
pub const DEFAULT_EPOCH: i64 = 315_532_800;

/// Memory of a stage's guest where nobody says otherwise.
pub const DEFAULT_MEMORY: u64 = 1 << 30;

/// What to build and how.
#[derive(Debug)]
pub struct Options {
    /// The Dockerfile.
    pub source: Source,
    /// The files that it can copy.
    pub context: SharedTree,
    /// `--build-context`: what stands for a name in `FROM` and `from`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--target`.
    pub target: Option<String>,
    /// `--build-arg`.
    pub arguments: BTreeMap<String, String>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--pull`.
    pub pull: bool,
    /// `--platform`; the machine's own when empty.
    pub platforms: Vec<Platform>,
    /// What commands can mount.
    pub sources: Sources,
    /// `-t`.
    pub names: Vec<Reference>,
    /// The latest time of a file and the time of the images, in seconds since 1970.
    pub epoch: i64,
    /// `--network none`: no command has a network.
    pub offline: bool,
    /// `--cache-from`: what builds left there is used.
    pub cache_from: Vec<CachePlace>,
    /// `--cache-to`: what this build did is put there.
    pub cache_to: Vec<CachePlace>,
    /// What the guests are like: memory, processors, engine, `/dev/shm`.
    pub guest: Config,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// Another image.
    Image(String),
    /// Files.
    Files(SharedTree),
}

/// What commands can mount that is no file of the build.
#[derive(Debug, Default)]
pub struct Sources {
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// `--ssh`: the sockets of agents, by id.
    pub ssh: BTreeMap<String, PathBuf>,
}

/// Builds; one image per platform comes back.
pub fn build(
    store: &Store,
    settings: &Settings,
    options: &Options,
    report: &dyn Report,
) -> Result<Vec<Image>, BuildError> {
    let used = Used::default();
    let under_way = store.begin_build()?;
    let built = build_all(store, settings, options, report, &used);
    // A build that failed has left something, too.
    let images = used.images.into_inner();
    let images = images.unwrap_or_else(PoisonError::into_inner);
    let now = now_ns() / 1_000_000_000;
    store.note_built(&images, now)?;
    drop(under_way);
    if used.new.load(Ordering::Relaxed)
        && let Some(_alone) = store.between_builds()?
    {
        let limits = &settings.builds;
        let budget = Budget {
            bytes: Some(limits.keep_bytes).filter(|bytes| *bytes > 0),
            used_since: Some(limits.keep_days)
                .filter(|days| *days > 0)
                .map(|days| now - i64::from(days) * 86_400),
        };
        let users = |id: &_| crate::container::users_of_image(store, id);
        shrink_builds(store, &Filter::default(), budget, &images, &users)?;
    }
    built
}

/// Images that a build used, and whether it made one.
#[derive(Debug, Default)]
struct Used {
    images: Mutex<BTreeSet<Digest>>,
    new: AtomicBool,
}

fn build_all(
    store: &Store,
    settings: &Settings,
    options: &Options,
    report: &dyn Report,
    used_images: &Used,
) -> Result<Vec<Image>, BuildError> {
    let dockerfile = dockerfile::parse(&options.source)?;
    let platforms = match options.platforms.as_slice() {
        [] => vec![settings.platform()],
        platforms => platforms.to_vec(),
    };
    let warn = |text: &str| report.event(0, Event::Note(&format!("[Warning] {text}")));
    let mut caches = Vec::new();
    for place in &options.cache_from {
        match cache::Cache::open(settings, place) {
            Ok(Some(cache)) => caches.push(cache),
            Ok(None) => warn(&format!("there is no cache in {place}")),
            // The build can do without.
            Err(BuildError::Image(error)) => warn(&format!("the cache {place}: {error}")),
            Err(error) => return Err(error),
        }
    }
    let lease = Lease::begin(store)?;
    let mut built = Vec::new();
    let mut used = BTreeSet::new();
    let mut steps = BTreeMap::new();
    for platform in &platforms {
        let builder = Builder {
            store,
            settings,
            options,
            report,
            lease: &lease,
            caches: &caches,
            images: used_images,
            platform: platform.clone(),
            explicit: !options.platforms.is_empty(),
            escape: dockerfile.escape,
            used: Mutex::default(),
            steps: Mutex::default(),
        };
        if platforms.len() > 1 {
            report.event(0, Event::Note(&format!("Platform {platform}")));
        }
        let plan = plan::plan(&dockerfile, &builder)?;
        let id = schedule::run(&builder, &plan)?;
        let Some(id) = id else {
            let message = "No image was generated: the last stage has nothing in it";
            return Err(BuildError::Usage(message.to_owned()));
        };
        for name in &options.names {
            let name = name.clone().with_default_tag();
            store.set_name(&name.canonical(), &platform.to_string(), &id)?;
        }
        let poisoned = PoisonError::into_inner;
        used.append(&mut builder.used.into_inner().unwrap_or_else(poisoned));
        steps.append(
            &mut builder
                .steps
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let image = crate::image::get(store, &id.to_string(), None)?;
        built.push(image);
    }
    for place in &options.cache_to {
        cache::export(store, settings, &steps, place)?;
    }
    let unused: Vec<&str> = options
        .arguments
        .keys()
        .filter(|name| !used.contains(*name) && !stage::is_proxy(name))
        .map(String::as_str)
        .collect();
    if !unused.is_empty() {
        warn(&format!(
            "One or more build-args [{}] were not consumed",
            unused.join(" ")
        ));
    }
    Ok(built)
}

/// Builds once more, without the cache, and tells which steps of `built` came out differently.
pub fn verify(
    store: &Store,
    settings: &Settings,
    options: &Options,
    built: &[Image],
) -> Result<Vec<String>, BuildError> {
    let again = build(store, settings, options, &report::Nobody)?;
    let mut differences = Vec::new();
    for (one, other) in built.iter().zip(&again) {
        if one.id != other.id {
            differences.extend(verify::compare(store, one, other)?);
        }
    }
    Ok(differences)
}

/// What all stages of one build share.
struct Builder<'a> {
    store: &'a Store,
    settings: &'a Settings,
    options: &'a Options,
    report: &'a dyn Report,
    lease: &'a Lease<'a>,
    /// `--cache-from`.
    caches: &'a [cache::Cache],
    images: &'a Used,
    platform: Platform,
    /// Whether somebody asked for the platform.
    explicit: bool,
    escape: char,
    /// Build arguments that were asked for.
    used: Mutex<BTreeSet<String>>,
    /// Commands that ran or were found in the cache, and their images.
    steps: Mutex<BTreeMap<Digest, Digest>>,
}

impl Builder<'_> {
    /// What the command line has a name stand for.
    fn context(&self, name: &str) -> Option<&NamedContext> {
        self.options.contexts.get(&name.to_ascii_lowercase())
    }

    /// The value of a build argument, which then counts as used.
    fn argument(&self, name: &str) -> Option<String> {
        let value = self.options.arguments.get(name)?;
        if let Ok(mut used) = self.used.lock() {
            used.insert(name.to_owned());
        }
        Some(value.clone())
    }

    /// The image that a step gave before, here or elsewhere; a cache that fails is told.
    fn cached(&self, step: &Digest, stage: usize) -> Result<Option<Image>, BuildError> {
        if self.options.no_cache {
            return Ok(None);
        }
        if let Some(id) = self.store.built(step)?
            && self.store.use_image(self.lease, &id)?
            && let Some(image) = crate::image::find(self.store, &id.to_string(), None)?
        {
            return Ok(Some(image));
        }
        for cache in self.caches {
            match cache.take(self.store, self.settings, step) {
                Ok(None) => {}
                Ok(Some(image)) => {
                    if self.store.use_image(self.lease, &image.id)? {
                        return Ok(Some(image));
                    }
                }
                Err(error @ ImageError::Store(_)) => return Err(error.into()),
                Err(error) => {
                    let text = format!("[Warning] a cached step cannot be had: {error}");
                    self.report.event(stage, Event::Note(&text));
                }
            }
        }
        Ok(None)
    }

    /// Notes that a step gave an image, which may be new.
    fn note_image(&self, image: &Digest, new: bool) {
        if let Ok(mut images) = self.images.images.lock() {
            images.insert(*image);
        }
        self.images.new.fetch_or(new, Ordering::Relaxed);
    }

    /// Notes what came of a command.
    fn note_step(&self, step: &Digest, image: &Digest) {
        if let Ok(mut steps) = self.steps.lock() {
            steps.insert(*step, *image);
        }
    }

    /// What docker calls the platform arguments.
    fn platform_argument(&self, name: &str) -> Option<String> {
        let (kind, platform) = match name.strip_prefix("TARGET") {
            Some(kind) => (kind, self.platform.clone()),
            None => (name.strip_prefix("BUILD")?, Platform::host()),
        };
        Some(match kind {
            "PLATFORM" => platform.to_string(),
            "OS" => platform.os,
            "ARCH" => platform.architecture,
            "VARIANT" => platform.variant.unwrap_or_default(),
            _ => return None,
        })
    }

    /// The image that a name stands for.
    fn image(&self, name: &str, platform: Option<&Platform>) -> Result<Image, BuildError> {
        use crate::image::{PullPolicy, Silent, ensure};
        let policy = match self.options.pull {
            true => PullPolicy::Always,
            false => PullPolicy::Missing,
        };
        let platform = platform.or(self.explicit.then_some(&self.platform));
        loop {
            let image = ensure(self.store, self.settings, name, platform, policy, &Silent)?;
            // A prune may have been quicker; then it is fetched again.
            if self.store.use_image(self.lease, &image.id)? {
                return Ok(image);
            }
        }
    }

    /// An image that was built, by its id.
    fn load(&self, id: &Digest) -> Result<Image, BuildError> {
        Ok(crate::image::get(self.store, &id.to_string(), None)?)
    }
}
