//! The classic builder: `/build`, an archive in, docker's lines out.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::Method;
use serde_json::{Value, json};

use super::error::ApiError;
use super::filters;
use super::lines::{Lines, answer_with};
use super::reply::{Reply, json};
use super::request::{Call, Query};
use super::router;
use super::state::{Context, Shared};
use crate::arch::Platform;
use crate::build::plain::Plain;
use crate::build::{self, BuildError, Options, Sources};
use crate::container::record::Config;
use crate::container::{self, options};
use crate::image::{self, Filter, Reference, Removed};
use crate::units;

/// The build argument that is the time of the images.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Answers for `/build…`.
pub async fn route(state: Shared, call: Call, rest: &[&str]) -> Reply {
    let method = call.method.clone();
    match (&method, rest) {
        (&Method::POST, []) => run(state, call).await,
        (&Method::POST, ["prune"]) => prune(state, call).await,
        _ => Err(router::no_such_page()),
    }
}

/// What the parameters of a build say.
#[derive(Debug)]
struct Asked {
    dockerfile: String,
    target: Option<String>,
    arguments: BTreeMap<String, String>,
    labels: Vec<(String, String)>,
    no_cache: bool,
    pull: bool,
    platforms: Vec<Platform>,
    names: Vec<Reference>,
    epoch: i64,
    offline: bool,
    quiet: bool,
    shm_size: Option<u64>,
    memory: Option<u64>,
    extra_hosts: Vec<(String, String)>,
}

impl Asked {
    fn new(query: &Query) -> Result<Self, ApiError> {
        if query.get("version") == Some("2") {
            return Err(ApiError::not_there("building with BuildKit over this API"));
        }
        if query.get("remote").is_some() {
            return Err(ApiError::not_there("building from a remote context"));
        }
        let map = |name: &str| match query.get(name) {
            None => Ok(BTreeMap::new()),
            Some(text) => serde_json::from_str::<Option<BTreeMap<String, Option<String>>>>(text)
                .map(Option::unwrap_or_default)
                .map_err(|error| ApiError::bad(format!("invalid {name}: {error}"))),
        };
        let arguments: BTreeMap<String, String> = map("buildargs")?
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let labels = map("labels")?.into_iter();
        let names = query.all("t").map(|name| {
            let parsed = name.parse::<Reference>();
            parsed.map_err(|error| ApiError::bad(format!("invalid reference format: {error}")))
        });
        let platforms = query.all("platform").flat_map(|text| text.split(','));
        let platforms = platforms.map(|text| {
            let parsed = text.parse::<Platform>();
            parsed.map_err(|error| ApiError::bad(error.to_string()))
        });
        let network = query.get("networkmode").unwrap_or("default");
        if !matches!(network, "default" | "bridge" | "none") {
            let message =
                format!("network {network:?} of a build is not there, use default or none");
            return Err(ApiError::bad(message));
        }
        let epoch = match arguments.get(EPOCH).filter(|text| !text.is_empty()) {
            None => build::DEFAULT_EPOCH,
            Some(text) => {
                let wrong = |_| ApiError::bad(format!("{EPOCH} is a number of seconds since 1970"));
                text.parse::<u32>().map(i64::from).map_err(wrong)?
            }
        };
        let hosts: Vec<String> = query
            .all("extrahosts")
            .flat_map(|hosts| hosts.split(','))
            .map(str::to_owned)
            .collect();
        let size = |size: Option<u64>| size.filter(|size| *size > 0);
        Ok(Self {
            dockerfile: query.get("dockerfile").unwrap_or("Dockerfile").to_owned(),
            target: query.get("target").map(str::to_owned),
            arguments,
            labels: labels.map(|(k, v)| (k, v.unwrap_or_default())).collect(),
            no_cache: query.flag("nocache"),
            pull: query.flag("pull"),
            platforms: platforms.collect::<Result<_, _>>()?,
            names: names.collect::<Result<_, _>>()?,
            epoch,
            offline: network == "none",
            quiet: query.flag("q"),
            shm_size: size(query.number("shmsize")?),
            memory: size(query.number("memory")?),
            extra_hosts: options::extra_hosts(&hosts)?,
        })
    }

    fn guest(&self, context: &Context) -> anyhow::Result<Config> {
        let defaults = &context.settings().defaults;
        let memory = match (self.memory, &defaults.memory) {
            (Some(bytes), _) => bytes,
            (None, Some(text)) => units::parse_bytes(text)?,
            (None, None) => build::DEFAULT_MEMORY,
        };
        Ok(Config {
            memory,
            cpus: 1,
            shm_size: self.shm_size.unwrap_or(options::DEFAULT_SHM),
            engine: defaults.engine.clone(),
            emulation: options::emulation(context.settings())?,
            isolation: defaults.isolation.unwrap_or_default(),
            auto_remove: true,
            extra_hosts: self.extra_hosts.clone(),
            ..Config::default()
        })
    }
}

async fn run(state: Shared, call: Call) -> Reply {
    let asked = Asked::new(&call.query)?;
    let reader = call.reader();
    answer_with(&state, move |context, lines: &Arc<Lines>| {
        let prepared = build::from_stream(
            context,
            Box::new(reader),
            Some(&asked.dockerfile),
            "the context",
        )?;
        let options = Options {
            source: prepared.source,
            context: prepared.context,
            target: asked.target.clone(),
            arguments: asked.arguments.clone(),
            labels: asked.labels.clone(),
            no_cache: asked.no_cache,
            pull: asked.pull,
            platforms: asked.platforms.clone(),
            sources: Sources::default(),
            contexts: BTreeMap::new(),
            names: asked.names.clone(),
            epoch: asked.epoch,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            offline: asked.offline,
            guest: asked.guest(context)?,
        };
        carry_out(context, &options, asked.quiet, lines)
    })
    .await
}

fn carry_out(
    context: &Context,
    options: &Options,
    quiet: bool,
    lines: &Arc<Lines>,
) -> Result<(), ApiError> {
    let told = lines.clone();
    let report = Plain::to(Box::new(move |text: &[u8]| {
        if !quiet {
            let text = String::from_utf8_lossy(text);
            // A client that left gets its image all the same, for the next time.
            let _ = told.tell(&json!({"stream": text}));
        }
    }));
    let built = build::build(context, context.settings(), options, &report);
    report.finish();
    drop(report);
    let images = built?;
    let tell = |value: &Value| {
        let _ = lines.tell(value);
    };
    for image in &images {
        tell(&json!({"aux": {"ID": image.id}}));
        let text = match quiet {
            true => format!("{}\n", image.id),
            false => format!("Successfully built {}\n", image.id.short()),
        };
        tell(&json!({"stream": text}));
    }
    for name in options.names.iter().filter(|_| !quiet) {
        let name = name.clone().with_default_tag();
        tell(&json!({"stream": format!("Successfully tagged {name}\n")}));
    }
    Ok(())
}

impl From<BuildError> for ApiError {
    fn from(error: BuildError) -> Self {
        let code = error.exit_code();
        let mut told = match error {
            BuildError::Usage(_) | BuildError::Mistake(_) => Self::bad(error.to_string()),
            BuildError::Image(error) => error.into(),
            error => Self::broken(error),
        };
        told.code = code;
        told
    }
}

async fn prune(state: Shared, call: Call) -> Reply {
    let filters = filters::parse(call.query.get("filters"))?;
    let all = call.query.flag("all");
    let (deleted, freed) = state
        .slow_work(move |context| {
            let filter = Filter::parse(context, &filters, &["until"])?;
            let users = |id: &_| container::users_of_image(context, id);
            let pruned = image::prune_builds(context, &filter, all, &users)?;
            // What commands keep has no age.
            let caches = match filters.is_empty() {
                true => context.remove_build_caches()?,
                false => 0,
            };
            let deleted = pruned.removed.iter().filter_map(|removed| match removed {
                Removed::Deleted(id) => Some(id.to_string()),
                Removed::Untagged(_) => None,
            });
            Ok((deleted.collect::<Vec<_>>(), pruned.freed + caches))
        })
        .await?;
    Ok(json(
        &json!({"CachesDeleted": deleted, "SpaceReclaimed": freed}),
    ))
}
