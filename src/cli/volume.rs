//! `volume`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::confirm::confirmed;
use super::context::Context;
use super::failure::sentence;
use super::format::{self, Column, print};
use crate::container::record::now_ns;
use crate::container::{id, volume, volume_options, volume_view};
use crate::human;
use crate::store::{RemovedVolume, VolumeRecord};
use crate::system::prune::{self, VolumeFilter};

/// Commands under `volume`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Group {
    /// Make a volume
    Create(Create),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show everything about volumes
    Inspect(Inspect),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Remove volumes that no container has
    Prune(Prune),
}

/// Options of `volume create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Set a label
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Tell the driver: type=none, o=bind, device=PATH
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Driver: only local is there
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Its name; made up when there is none
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

/// Options of `volume ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Show names only
    #[arg(short, long)]
    quiet: bool,
    /// Show only what matches: dangling, driver, label, name
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, table and a template, or json
    #[arg(long)]
    format: Option<String>,
}

/// Options of `volume inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A Go template, or json
    #[arg(short, long)]
    format: Option<String>,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

/// Options of `volume rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// Do not complain about what is not there
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

/// Options of `volume prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Remove volumes with a name too
    #[arg(short, long)]
    all: bool,
    /// Remove only what matches: label, label!, all
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

const COLUMNS: [Column; 2] = [
    Column {
        heading: "DRIVER",
        field: "Driver",
    },
    Column {
        heading: "VOLUME NAME",
        field: "Name",
    },
];

/// Runs a command under `volume`.
pub fn run(group: &Group, context: &Context) -> anyhow::Result<ExitCode> {
    match group {
        Group::Create(args) => create(args, context),
        Group::Ls(args) => ls(args, context),
        Group::Inspect(args) => inspect(args, context),
        Group::Rm(args) => rm(args, context),
        Group::Prune(args) => prune(args, context),
    }
}

fn create(args: &Create, context: &Context) -> anyhow::Result<ExitCode> {
    if args.driver != "local" {
        bail!("volume driver {:?} is not there, use local", args.driver);
    }
    let (name, anonymous) = match &args.name {
        Some(name) => (volume::check_name(name)?, false),
        None => (id::generate()?, true),
    };
    let pair = |label: &String| {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        (key.to_owned(), value.to_owned())
    };
    let options = args.opt.iter().map(pair).collect::<BTreeMap<_, _>>();
    volume_options::read(&options)?;
    context.store.create_volume(&VolumeRecord {
        name: name.clone(),
        created: now_ns(),
        anonymous,
        labels: args.label.iter().map(pair).collect::<BTreeMap<_, _>>(),
        options,
    })?;
    print(&format!("{name}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn ls(args: &Ls, context: &Context) -> anyhow::Result<ExitCode> {
    let volumes = volume_view::list(&context.store, &args.filter)?;
    let rows: Vec<Value> = volumes
        .iter()
        .map(|v| volume_view::value(&context.store, v))
        .collect();
    if args.quiet && args.format.is_none() {
        print(
            &volumes
                .iter()
                .map(|v| format!("{}\n", v.name))
                .collect::<String>(),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    format::print_rows(args.format.as_deref(), &COLUMNS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn inspect(args: &Inspect, context: &Context) -> anyhow::Result<ExitCode> {
    let volumes = context.store.volumes()?;
    let mut code = ExitCode::SUCCESS;
    let mut found = Vec::new();
    for name in &args.names {
        match volumes.iter().find(|volume| volume.name == *name) {
            Some(volume) => found.push(volume_view::value(&context.store, volume)),
            None => {
                eprintln!("hull: get {name}: no such volume");
                code = ExitCode::FAILURE;
            }
        }
    }
    format::print_objects(args.format.as_deref(), &found)?;
    Ok(code)
}

fn rm(args: &Rm, context: &Context) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        let problem = match context.store.remove_volume(name) {
            Ok(RemovedVolume::Gone(_)) => None,
            Ok(RemovedVolume::Missing) if args.force => None,
            Ok(RemovedVolume::Missing) => Some(format!("get {name}: no such volume")),
            Ok(RemovedVolume::InUse(users)) => Some(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )),
            Err(error) => Some(sentence(&error.into())),
        };
        match problem {
            None => print(&format!("{name}\n"))?,
            Some(problem) => {
                eprintln!("hull: {problem}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn prune(args: &Prune, context: &Context) -> anyhow::Result<ExitCode> {
    let filter = VolumeFilter::parse(&args.filter, args.all)?;
    let what = if args.all { "all" } else { "anonymous" };
    let warning =
        format!("This will remove {what} local volumes not used by at least one container.");
    if !args.force && !confirmed(&warning)? {
        return Ok(ExitCode::SUCCESS);
    }
    let pruned = prune::volumes(&context.store, &filter)?;
    if !pruned.removed.is_empty() {
        let names = pruned.removed.join("\n");
        print(&format!("Deleted Volumes:\n{names}\n\n"))?;
    }
    print(&format!(
        "Total reclaimed space: {}\n",
        human::exact_size(pruned.freed)
    ))?;
    Ok(ExitCode::SUCCESS)
}
