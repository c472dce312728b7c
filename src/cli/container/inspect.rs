//! `inspect`: whatever has the name, as docker's `inspect` finds containers, images, networks and
//! volumes.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::failure::sentence;
use crate::cli::format;
use crate::cli::image::inspect::inspect_value as inspect_image;
use crate::container::inspect::inspect_value;
use crate::container::lifecycle;
use crate::container::network_view;
use crate::container::record::Container;
use crate::container::volume_view::value as inspect_volume;
use crate::image;
use crate::network::record::ConnectError;
use crate::store::Found;

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

/// Options of `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A Go template, or json
    #[arg(short, long)]
    format: Option<String>,
    /// Look for things of this kind only
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<Kind>,
    /// Show what containers wrote, and with their image
    #[arg(short, long)]
    size: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Options of `container inspect`.
#[derive(Debug, Args)]
pub struct InspectContainers {
    /// A Go template, or json
    #[arg(short, long)]
    format: Option<String>,
    /// Show what containers wrote, and with their image
    #[arg(short, long)]
    size: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
}

/// `inspect`.
pub fn run(args: &Inspect, context: &Context) -> anyhow::Result<ExitCode> {
    let find = |name: &str| find(name, args.kind, args.size, context);
    show(&args.names, args.format.as_deref(), find)
}

/// `container inspect`.
pub fn containers(args: &InspectContainers, context: &Context) -> anyhow::Result<ExitCode> {
    let find = |name: &str| {
        let container = lifecycle::find(&context.store, name)?;
        container_value(&container, args.size, context)
    };
    show(&args.names, args.format.as_deref(), find)
}

fn show(
    names: &[String],
    format: Option<&str>,
    find: impl Fn(&str) -> anyhow::Result<Value>,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut found = Vec::new();
    for name in names {
        match find(name) {
            Ok(value) => found.push(value),
            Err(error) => {
                eprintln!("hull: {}", sentence(&error));
                code = ExitCode::FAILURE;
            }
        }
    }
    format::print_objects(format, &found)?;
    Ok(code)
}

fn find(name: &str, kind: Option<Kind>, size: bool, context: &Context) -> anyhow::Result<Value> {
    let wanted = |this: Kind| kind.is_none_or(|kind| kind == this);
    if wanted(Kind::Container) {
        match context.store.find_container(name)? {
            Found::One(container) => return container_value(&container, size, context),
            Found::Ambiguous => bail!("container id prefix {name:?} is ambiguous"),
            Found::None => {}
        }
    }
    if wanted(Kind::Image)
        && let Some(value) = inspect_image(context, name)?
    {
        return Ok(value);
    }
    if wanted(Kind::Network) {
        match context.store.find_network(name)? {
            Ok(network) => return Ok(network_view::value(&context.store, &network)?),
            Err(ConnectError::NoNetwork(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if wanted(Kind::Volume) {
        let volumes = context.store.volumes()?;
        if let Some(volume) = volumes.iter().find(|volume| volume.name == name) {
            return Ok(inspect_volume(&context.store, volume));
        }
    }
    bail!("No such object: {name}")
}

fn container_value(container: &Container, size: bool, context: &Context) -> anyhow::Result<Value> {
    let store = &context.store;
    let mut value = inspect_value(store, container)?;
    if size {
        let written = store.container_size(container)?;
        let image = image::find(store, &container.config.image_id, None)?;
        value["SizeRw"] = written.into();
        value["SizeRootFs"] = (written + image.map_or(0, |image| image.size)).into();
    }
    Ok(value)
}
