//! `ps`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::format::{self, Column};
use crate::cli::human;
use crate::container::record::{Container, now_ns};
use crate::container::state::Status;
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
    /// Show the newest container, whatever its state
    #[arg(short, long)]
    latest: bool,
    /// Show so many of the newest containers, whatever their state
    #[arg(short = 'n', long, value_name = "N", allow_hyphen_values = true)]
    last: Option<i64>,
    /// Show only what matches: id, name, label, status, exited, ancestor
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, table and a template, or json
    #[arg(long)]
    format: Option<String>,
}

const COLUMNS: [Column; 7] = [
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
];

/// `ps`.
pub fn run(args: &Ps, context: &Context) -> anyhow::Result<ExitCode> {
    let filters = args
        .filter
        .iter()
        .map(|f| Filter::parse(f))
        .collect::<Result<Vec<_>, _>>()?;
    let last = if args.latest {
        Some(1)
    } else {
        args.last.filter(|&n| n >= 0)
    };
    let any_state = args.all || last.is_some() || filters.iter().any(Filter::about_state);
    let shown = context
        .store
        .containers()?
        .into_iter()
        .filter(|c| any_state || c.state.status == Status::Running)
        .filter(|c| groups_match(&filters, c))
        .take(last.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX)));
    let rows = shown
        .map(|container| row(&container, args.no_trunc, context))
        .collect::<anyhow::Result<Vec<Value>>>()?;
    if args.quiet && args.format.is_none() {
        for row in &rows {
            println!("{}", row["ID"].as_str().unwrap_or_default());
        }
        return Ok(ExitCode::SUCCESS);
    }
    format::print_rows(args.format.as_deref(), &COLUMNS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn row(container: &Container, whole: bool, context: &Context) -> anyhow::Result<Value> {
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
        "Status": status(container),
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

fn status(container: &Container) -> String {
    let state = &container.state;
    let since = |then: i64| human::duration_ns(now_ns() - then);
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => format!("Up {}", since(state.started_at)),
        Status::Exited => {
            format!(
                "Exited ({}) {} ago",
                state.exit_code,
                since(state.finished_at)
            )
        }
    }
}

/// One `--filter`.
#[derive(Debug, PartialEq)]
enum Filter {
    Id(String),
    Name(String),
    Label(String),
    Status(String),
    Exited(i32),
    Ancestor(String),
}

impl Filter {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let Some((key, value)) = text.split_once('=') else {
            bail!("invalid filter {text:?}, use KEY=VALUE");
        };
        let owned = value.to_owned();
        Ok(match key {
            "id" => Self::Id(owned),
            "name" => Self::Name(owned),
            "label" => Self::Label(owned),
            "status" => match value {
                "created" | "running" | "exited" | "paused" | "restarting" | "removing"
                | "dead" => Self::Status(owned),
                _ => bail!("invalid filter {text:?}: {value:?} is no state of a container"),
            },
            "exited" => match value.parse() {
                Ok(code) => Self::Exited(code),
                Err(_) => bail!("invalid filter {text:?}: an exit code is a number"),
            },
            "ancestor" => Self::Ancestor(owned),
            _ => bail!("invalid filter {key:?}, use id, name, label, status, exited or ancestor"),
        })
    }

    fn about_state(&self) -> bool {
        matches!(self, Self::Status(_) | Self::Exited(_))
    }

    fn matches(&self, container: &Container) -> bool {
        match self {
            Self::Id(id) => container.id.starts_with(id.as_str()),
            Self::Name(name) => container.name.contains(name.trim_start_matches('/')),
            Self::Label(label) => match label.split_once('=') {
                Some((name, value)) => container
                    .config
                    .labels
                    .get(name)
                    .is_some_and(|own| own == value),
                None => container.config.labels.contains_key(label),
            },
            Self::Status(status) => container.state.status.as_str() == status,
            Self::Exited(code) => {
                container.state.status == Status::Exited && container.state.exit_code == *code
            }
            Self::Ancestor(image) => {
                let id = &container.config.image_id;
                container.config.image == *image
                    || id.trim_start_matches("sha256:").starts_with(image.as_str())
                    || id == image
            }
        }
    }
}

/// As docker: filters of one kind are alternatives, kinds must all match.
fn groups_match(filters: &[Filter], container: &Container) -> bool {
    filters.iter().all(|filter| {
        let kind = std::mem::discriminant(filter);
        let mut alike = filters
            .iter()
            .filter(|other| std::mem::discriminant(*other) == kind);
        match filter {
            Filter::Label(_) => filter.matches(container),
            _ => alike.any(|other| other.matches(container)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_combine_as_in_docker() {
        let mut container = Container {
            id: "abc123".into(),
            name: "web".into(),
            created_at: 0,
            config: crate::container::Config::default(),
            state: crate::container::State::default(),
        };
        container.config.labels.insert("a".into(), "1".into());
        let matches = |texts: &[&str]| {
            let filters: Vec<_> = texts.iter().map(|t| Filter::parse(t).unwrap()).collect();
            groups_match(&filters, &container)
        };
        assert!(matches(&[]));
        assert!(matches(&["status=exited", "status=created"]));
        assert!(!matches(&["status=exited", "name=web"]));
        assert!(matches(&["label=a", "label=a=1", "id=abc"]));
        assert!(!matches(&["label=a", "label=b"]));
        for bad in ["status", "status=asleep", "exited=x", "colour=red"] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_commands_are_shortened() {
        assert_eq!(shorten("sleep 10", 20), "sleep 10");
        assert_eq!(shorten(&"x".repeat(30), 20).chars().count(), 20);
    }
}
