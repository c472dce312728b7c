//! `ps`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::format::{self, Column};
use crate::container::describe;
use crate::container::filter::{self, Filter};
use crate::container::record::Container;
use crate::human;
use crate::image;
use crate::network::ports;

/// Options of `ps`.
#[derive(Debug, Args)]
pub struct Ps {
    /// Show containers that do not run too
    #[arg(short, long)]
    all: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Show what containers wrote, and with their image
    #[arg(short, long)]
    size: bool,
    /// Show the newest container, whatever its state
    #[arg(short, long)]
    latest: bool,
    /// Show so many of the newest containers, whatever their state
    #[arg(short = 'n', long, value_name = "N", allow_hyphen_values = true)]
    last: Option<i64>,
    /// Show only what matches: ancestor, before, exited, expose, health, id, label, name, network,
    /// publish, since, status, volume
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, table and a template, or json
    #[arg(long)]
    format: Option<String>,
}

const COLUMNS: [Column; 8] = [
    Column {
        heading: "CONTAINER ID",
        field: "ID",
    },
    Column {
        heading: "IMAGE",
        field: "Image",
    },
    Column {
        heading: "COMMAND",
        field: "Command",
    },
    Column {
        heading: "CREATED",
        field: "RunningFor",
    },
    Column {
        heading: "STATUS",
        field: "Status",
    },
    Column {
        heading: "PORTS",
        field: "Ports",
    },
    Column {
        heading: "NAMES",
        field: "Names",
    },
    Column {
        heading: "SIZE",
        field: "Size",
    },
];

/// `ps`.
pub fn run(args: &Ps, context: &Context) -> anyhow::Result<ExitCode> {
    let filter = Filter::parse(&context.store, &args.filter, filter::OF_PS)?;
    let last = if args.latest {
        Some(1)
    } else {
        args.last.filter(|&n| n >= 0)
    };
    let any_state = args.all || last.is_some() || filter.is_about_state();
    let shown = context
        .store
        .containers()?
        .into_iter()
        .filter(|c| any_state || c.state.status.is_live())
        .filter(|c| filter.matches(c))
        .take(last.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX)));
    let wants_size = args.size || args.format.as_ref().is_some_and(|f| f.contains(".Size"));
    let mut rows = Vec::new();
    for container in shown {
        let mut row = row(&container, args.no_trunc, context)?;
        if wants_size {
            row["Size"] = size(&container, context)?.into();
        }
        rows.push(row);
    }
    if args.quiet && args.format.is_none() {
        for row in &rows {
            println!("{}", row["ID"].as_str().unwrap_or_default());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let columns = match args.size {
        true => &COLUMNS[..],
        false => &COLUMNS[..7],
    };
    format::print_rows(args.format.as_deref(), columns, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// What a container wrote, and with the files of its image.
fn size(container: &Container, context: &Context) -> anyhow::Result<String> {
    let size = context.store.container_size(container)?;
    let image = image::find(&context.store, &container.config.image_id, None)?;
    let whole = size + image.map_or(0, |image| image.size);
    Ok(format!(
        "{} (virtual {})",
        human::size(size),
        human::size(whole)
    ))
}

/// A container as `ps` shows it.
pub fn row(container: &Container, whole: bool, context: &Context) -> anyhow::Result<Value> {
    let endpoints = context.store.endpoints(&container.id)?;
    let networks: Vec<_> = endpoints
        .into_iter()
        .map(|(network, _)| network.name)
        .collect();
    let config = &container.config;
    let command = config.argv().join(" ");
    let command = if whole {
        command
    } else {
        shorten(&command, 20)
    };
    let labels = config
        .labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect::<Vec<_>>();
    Ok(json!({
        "ID": if whole { &container.id } else { container.short_id() },
        "Image": config.image,
        "Command": format!("{command:?}"),
        "CreatedAt": crate::time::rfc3339(container.created_at),
        "RunningFor": human::ago_ns(container.created_at),
        "Status": describe::status(container),
        "State": container.state.status.as_str(),
        "Ports": ports(container),
        "Names": container.name,
        "Labels": labels.join(","),
        "Mounts": config.binds.iter().map(|b| b.source.display().to_string()).collect::<Vec<_>>().join(","),
        "Networks": networks.join(","),
        "LocalVolumes": config.binds.iter().filter(|b| b.volume.is_some()).count().to_string(),
        "Engine": container.state.engine,
        "Platform": config.platform,
        "Size": "0B",
    }))
}

/// As docker: a container that does not run has no ports.
fn ports(container: &Container) -> String {
    match container.state.status.is_live() {
        true => ports::describe(&container.state.ports, &container.config.exposed_ports),
        false => String::new(),
    }
}

fn shorten(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    text.chars().take(characters - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_shortened() {
        assert_eq!(shorten("sleep 10", 20), "sleep 10");
        assert_eq!(shorten(&"x".repeat(30), 20).chars().count(), 20);
    }
}
