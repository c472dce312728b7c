//! `inspect`: containers and images by name, as docker's `inspect` finds both.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::failure::sentence;
use crate::cli::format;
use crate::cli::image::inspect::inspect_value as inspect_image;
use crate::container::inspect::inspect_value;
use crate::store::Found;

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Container,
    Image,
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
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// `inspect`.
pub fn run(args: &Inspect, context: &Context) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut found = Vec::new();
    for name in &args.names {
        match find(name, args.kind, context) {
            Ok(value) => found.push(value),
            Err(error) => {
                eprintln!("hull: {}", sentence(&error));
                code = ExitCode::FAILURE;
            }
        }
    }
    format::print_objects(args.format.as_deref(), &found)?;
    Ok(code)
}

fn find(name: &str, kind: Option<Kind>, context: &Context) -> anyhow::Result<Value> {
    if kind != Some(Kind::Image) {
        match context.store.find_container(name)? {
            Found::One(container) => return inspect_value(&context.store, &container),
            Found::Ambiguous => bail!("container id prefix {name:?} is ambiguous"),
            Found::None => {}
        }
    }
    if kind != Some(Kind::Container)
        && let Some(value) = inspect_image(context, name)?
    {
        return Ok(value);
    }
    bail!("No such object: {name}")
}
