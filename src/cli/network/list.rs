//! `network ls` and `network inspect`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::format::{self, Column, print};
use crate::container::network_view;
use crate::id;
use crate::network::record::Network;
use crate::time::rfc3339;

/// Options of `network ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten
    #[arg(long)]
    no_trunc: bool,
    /// Show only what matches: dangling, driver, id, label, name, scope, type
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// A Go template, table and a template, or json
    #[arg(long)]
    format: Option<String>,
}

/// Options of `network inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A Go template, or json
    #[arg(short, long)]
    format: Option<String>,
    /// Accepted; everything is always shown
    #[arg(short, long)]
    verbose: bool,
    /// Names
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

const COLUMNS: [Column; 4] = [
    Column {
        heading: "NETWORK ID",
        field: "ID",
    },
    Column {
        heading: "NAME",
        field: "Name",
    },
    Column {
        heading: "DRIVER",
        field: "Driver",
    },
    Column {
        heading: "SCOPE",
        field: "Scope",
    },
];

/// `network ls`.
pub fn ls(args: &Ls, context: &Context) -> anyhow::Result<ExitCode> {
    let networks = network_view::list(&context.store, &args.filter)?;
    let shown = |network: &Network| match args.no_trunc {
        true => network.id.clone(),
        false => id::short(&network.id).to_owned(),
    };
    if args.quiet && args.format.is_none() {
        let ids: String = networks.iter().map(|n| shown(n) + "\n").collect();
        print(&ids)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |network: &Network| {
        let config = &network.config;
        let labels = config.labels.iter().map(|(k, v)| format!("{k}={v}"));
        json!({
            "ID": shown(network),
            "Name": network.name,
            "Driver": "bridge",
            "Scope": "local",
            "IPv4": "true",
            "IPv6": config.subnet6.is_some().to_string(),
            "Internal": config.internal.to_string(),
            "Labels": labels.collect::<Vec<_>>().join(","),
            "CreatedAt": rfc3339(network.created),
        })
    };
    let rows: Vec<Value> = networks.iter().map(row).collect();
    format::print_rows(args.format.as_deref(), &COLUMNS, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// `network inspect`.
pub fn inspect(args: &Inspect, context: &Context) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut found = Vec::new();
    for name in &args.names {
        match context.store.find_network(name)? {
            Ok(network) => found.push(network_view::value(&context.store, &network)?),
            Err(error) => {
                eprintln!("hull: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    format::print_objects(args.format.as_deref(), &found)?;
    Ok(code)
}
