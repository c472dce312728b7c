//! `build`, also as `image build`, `builder build` and `buildx build`.

mod given;
mod limits;
mod live;
mod prune;

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::context::Context;
use super::failure::Failure;
use crate::arch::Platform;
use crate::arch::dispatch::Isolation;
use crate::build::{self, BuildError, CachePlace, Location, NamedContext, Options, Sources};
use crate::cli::format::print;
use crate::container::options::extra_hosts;
use crate::container::record::{Config, Emulation};
use crate::image::Reference;
use crate::image::digest::Digest;
use crate::units;

/// Docker's size of `/dev/shm`.
const DEFAULT_SHM: u64 = 64 << 20;

/// Options of `build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Dockerfile; - reads it from the standard input (default: PATH/Dockerfile)
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Name and optionally a tag for the image
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Vec<Reference>,
    /// Set a build argument; without a value, take the environment's
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Set a label of the image
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Run every command anew
    #[arg(long)]
    no_cache: bool,
    /// Use the steps in a registry or a directory: NAME, or type=local,src=DIR
    #[arg(long, value_name = "CACHE")]
    cache_from: Vec<String>,
    /// Put the steps into a registry or a directory: type=registry,ref=NAME or type=local,dest=DIR
    #[arg(long, value_name = "CACHE")]
    cache_to: Vec<String>,
    /// Ask the registry for newer base images
    #[arg(long)]
    pull: bool,
    /// Print the image's id only
    #[arg(short, long)]
    quiet: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// A secret for RUN --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// An SSH agent for RUN --mount=type=ssh: default, or NAME=SOCKET
    #[arg(long, value_name = "AGENT")]
    ssh: Vec<String>,
    /// What a name in FROM and --from stands for: a directory, an address, docker-image://NAME
    #[arg(long, value_name = "NAME=CONTEXT")]
    build_context: Vec<String>,
    /// Stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Platforms to build for, as in linux/amd64,linux/arm64
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// How to show progress: auto, plain, tty or quiet
    #[arg(long, value_name = "HOW", default_value = "auto")]
    progress: Progress,
    /// What to do when a command fails: stop, or shell to enter the image before it
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    on_fail: OnFail,
    /// Build twice without the cache and compare
    #[arg(long)]
    verify: bool,
    /// Network of commands: default or none
    #[arg(long, value_name = "NETWORK", default_value = "default")]
    network: NetworkMode,
    /// Add a line to /etc/hosts of commands
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Memory of a stage's guest, as in 512m or 2g
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// What executes the guests: kvm, uml or tcg
    #[arg(long)]
    engine: Option<vmm::EngineKind>,
    /// How programs of a foreign architecture run
    #[arg(long)]
    emulation: Option<Emulation>,
    /// Refuse an engine with a weaker boundary
    #[arg(long, value_enum, value_name = "BOUNDARY")]
    isolation: Option<Isolation>,
    #[command(flatten)]
    limits: limits::Limits,
    /// Directory to build from, address of a git repository, an archive or a Dockerfile, or - for
    /// an archive or a Dockerfile on the standard input
    #[arg(value_name = "PATH|URL|-")]
    context: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Progress {
    Auto,
    Plain,
    Tty,
    Quiet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NetworkMode {
    #[value(alias = "bridge")]
    Default,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnFail {
    Stop,
    Shell,
}

/// `builder` and `buildx`.
#[derive(Debug, clap::Subcommand)]
pub enum Group {
    /// Build an image from a Dockerfile
    Build(Box<Args>),
    /// Remove what builds left: steps that nothing needs, and caches of commands
    Prune(prune::Args),
}

/// Runs a command under `builder` or `buildx`.
pub fn run_group(group: &Group, context: &Context) -> anyhow::Result<ExitCode> {
    match group {
        Group::Build(args) => run(args, context),
        Group::Prune(args) => prune::run(args, context),
    }
}

/// `build`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let arguments = given::arguments(&args.build_arg);
    let keep_git_dir = arguments.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    let location = Location {
        context: &args.context,
        file: args.file.as_deref(),
        keep_git_dir: keep_git_dir.is_some_and(|value| value == "1" || value == "true"),
        limit: context.settings.limits.layer_bytes,
    };
    let mut guest = guest(args, context)?;
    for sentence in args.limits.apply(&mut guest)? {
        eprintln!("hull: warning: {sentence}");
    }
    let prepared = build::prepare(&context.store, location)?;
    let options = Options {
        source: prepared.source,
        context: prepared.context,
        contexts: contexts(&args.build_context, context)?,
        target: args.target.clone(),
        arguments,
        labels: args.label.iter().map(|label| given::pair(label)).collect(),
        no_cache: args.no_cache || args.verify,
        pull: args.pull,
        platforms: args.platform.clone(),
        sources: Sources {
            secrets: given::secrets(&args.secret)?,
            ssh: given::agents(&args.ssh)?,
        },
        names: args.tag.clone(),
        epoch: epoch(&args.build_arg)?,
        cache_from: caches("--cache-from", &args.cache_from, "src")?,
        cache_to: caches("--cache-to", &args.cache_to, "dest")?,
        offline: args.network == NetworkMode::None,
        guest,
    };
    let quiet = args.quiet || args.progress == Progress::Quiet;
    let live = match args.progress {
        Progress::Auto => std::io::stdout().is_terminal(),
        Progress::Tty => true,
        Progress::Plain | Progress::Quiet => false,
    };
    let (store, settings) = (&context.store, &context.settings);
    let built = if live && !quiet {
        let report = live::Live::new();
        let built = build::build(store, settings, &options, &report);
        report.finish();
        built
    } else {
        let report = build::plain::Plain::new(quiet);
        let built = build::build(store, settings, &options, &report);
        report.finish();
        built
    };
    let images = match built {
        Ok(images) => images,
        Err(error) => return fail(args, context, &error),
    };
    let Some(last) = images.last() else {
        return Ok(ExitCode::SUCCESS);
    };
    if args.verify {
        let differences = build::verify(&context.store, &context.settings, &options, &images)?;
        if !differences.is_empty() {
            let text = differences.join("\n");
            let message = format!("a second build gave another image, these differ:\n{text}");
            return Err(Failure::new(1, message).into());
        }
    }
    if let Some(path) = &args.iidfile {
        fs::write(path, last.id.to_string())
            .with_context(|| format!("writing the image id file {}", path.display()))?;
    }
    if quiet {
        print(
            &images
                .iter()
                .map(|image| format!("{}\n", image.id))
                .collect::<String>(),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for image in &images {
        text.push_str(&format!("Successfully built {}\n", image.id.short()));
    }
    for name in &args.tag {
        text.push_str(&format!(
            "Successfully tagged {}\n",
            name.clone().with_default_tag()
        ));
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Says why, and how to look at what there is.
fn fail(args: &Args, context: &Context, error: &BuildError) -> anyhow::Result<ExitCode> {
    let code = error.exit_code();
    let image = match error {
        BuildError::Command { image, .. } | BuildError::Refused { image, .. } => *image,
        _ => None,
    };
    let Some(image) = image else {
        return Err(Failure::new(code, error.to_string()).into());
    };
    let hint = format!(
        "{error}\nenter the image before it: hull run --rm -it {} sh",
        image.short()
    );
    if args.on_fail == OnFail::Shell {
        eprintln!("hull: {hint}");
        enter(context, &image)?;
        return Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)));
    }
    Err(Failure::new(code, hint).into())
}

/// Runs a shell in the image, in place of a `hull run` that the user would type.
fn enter(_context: &Context, image: &Digest) -> anyhow::Result<()> {
    let status = std::process::Command::new("/proc/self/exe")
        .args([
            "run",
            "--rm",
            "-it",
            "--entrypoint",
            "sh",
            &image.to_string(),
        ])
        .status()
        .context("starting hull run")?;
    anyhow::ensure!(status.success(), "the shell ended with {status}");
    Ok(())
}

/// What `--build-context` names, by name in lower case.
fn contexts(given: &[String], context: &Context) -> anyhow::Result<BTreeMap<String, NamedContext>> {
    let limit = context.settings.limits.layer_bytes;
    let named = given.iter().map(|text| {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, value)| !name.is_empty() && !value.is_empty())
            .with_context(|| format!("--build-context {text}: it is NAME=CONTEXT"))?;
        let named = build::named_context(&context.store, value, limit)?;
        Ok((name.to_ascii_lowercase(), named))
    });
    named.collect()
}

fn caches(option: &str, given: &[String], key: &str) -> Result<Vec<CachePlace>, BuildError> {
    let places = given
        .iter()
        .map(|text| build::cache_place(option, text, key));
    places.collect()
}

/// The time of the images: `SOURCE_DATE_EPOCH`, as a build argument or of the environment.
fn epoch(arguments: &[String]) -> anyhow::Result<i64> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let given = arguments
        .iter()
        .rev()
        .find_map(|text| text.strip_prefix(NAME)?.strip_prefix('='));
    let from_environment = std::env::var(NAME).ok();
    let text = given.map(str::to_owned).or(from_environment);
    match text.filter(|text| !text.is_empty()) {
        None => Ok(build::DEFAULT_EPOCH),
        Some(text) => text
            .parse::<u32>()
            .map(i64::from)
            .with_context(|| format!("{NAME} is a number of seconds since 1970, not {text:?}")),
    }
}

fn guest(args: &Args, context: &Context) -> anyhow::Result<Config> {
    let defaults = &context.settings.defaults;
    let memory = args.memory.as_ref().or(defaults.memory.as_ref());
    let emulation = match (args.emulation, defaults.emulation.as_deref()) {
        (Some(emulation), _) => Some(emulation),
        (None, Some("system")) => Some(Emulation::System),
        (None, Some("user")) => Some(Emulation::User),
        (None, _) => None,
    };
    let shm = args.shm_size.as_ref();
    let engine = args.engine.map(|engine| engine.to_string());
    Ok(Config {
        memory: memory.map_or(Ok(build::DEFAULT_MEMORY), |text| units::parse_bytes(text))?,
        cpus: 1,
        shm_size: shm.map_or(Ok(DEFAULT_SHM), |text| units::parse_bytes(text))?,
        engine: engine.or_else(|| defaults.engine.clone()),
        emulation,
        isolation: args.isolation.or(defaults.isolation).unwrap_or_default(),
        auto_remove: true,
        extra_hosts: extra_hosts(&args.add_host)?,
        ..Config::default()
    })
}
