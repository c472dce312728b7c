//! `network ls` and `network inspect`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::context::Context;
use crate::cli::format::{self, Column, print};
use crate::id;
use crate::network::record::Network;
use crate::store::{Found, MemberRecord};
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
    let mut networks = context.store.networks()?;
    for filter in &args.filter {
        let Some((key, value)) = filter.split_once('=') else {
            bail!("invalid filter {filter:?}, use KEY=VALUE");
        };
        match (key, value) {
            ("driver", driver) => networks.retain(|_| driver == "bridge"),
            ("scope", scope) => networks.retain(|_| scope == "local"),
            ("id", id) => networks.retain(|network| network.id.starts_with(id)),
            ("name", text) => networks.retain(|network| network.name.contains(text)),
            ("type", "builtin") => networks.retain(Network::is_default),
            ("type", "custom") => networks.retain(|network| !network.is_default()),
            ("label", label) => networks.retain(|network| {
                let labels = &network.config.labels;
                match label.split_once('=') {
                    Some((name, value)) => labels.get(name).is_some_and(|own| own == value),
                    None => labels.contains_key(label),
                }
            }),
            ("dangling", "true" | "1" | "false" | "0") => {
                let wanted = matches!(value, "true" | "1");
                let mut kept = Vec::new();
                for network in networks {
                    let members = context.store.network_members(&network.id)?;
                    if (members.is_empty() && !network.is_default()) == wanted {
                        kept.push(network);
                    }
                }
                networks = kept;
            }
            _ => bail!(
                "invalid filter {filter:?}, use dangling, driver, id, label, name, scope or type"
            ),
        }
    }
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
            Ok(network) => found.push(value(&network, context)?),
            Err(error) => {
                eprintln!("hull: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    format::print_objects(args.format.as_deref(), &found)?;
    Ok(code)
}

fn value(network: &Network, context: &Context) -> anyhow::Result<Value> {
    let config = &network.config;
    let mut ipam = vec![json!({
        "Subnet": config.subnet.to_string(),
        "Gateway": config.gateway.to_string(),
    })];
    if let (Some(range), Some(Value::Object(first))) = (config.range, ipam.first_mut()) {
        first.insert("IPRange".to_owned(), range.to_string().into());
    }
    if let Some(subnet) = config.subnet6 {
        let gateway = config.gateway6.map(|address| address.to_string());
        ipam.push(json!({"Subnet": subnet.to_string(), "Gateway": gateway}));
    }
    let mut containers = Map::new();
    for member in context.store.network_members(&network.id)? {
        // As docker: only those that run.
        if let Found::One(container) = context.store.find_container(&member.endpoint.container)?
            && container.state.status.is_live()
        {
            let id = member.endpoint.container.clone();
            containers.insert(id, of_member(network, &member));
        }
    }
    Ok(json!({
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": true,
        "EnableIPv6": config.subnet6.is_some(),
        "IPAM": {"Driver": "default", "Options": {}, "Config": ipam},
        "Internal": config.internal,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": containers,
        "Options": config.options,
        "Labels": config.labels,
    }))
}

fn of_member(network: &Network, member: &MemberRecord) -> Value {
    let endpoint = &member.endpoint;
    let config = &network.config;
    let ipv6 = endpoint.ipv6.zip(config.subnet6);
    json!({
        "Name": member.name,
        "EndpointID": endpoint.container,
        "MacAddress": endpoint.mac_text(),
        "IPv4Address": format!("{}/{}", endpoint.ipv4, config.subnet.prefix_len()),
        "IPv6Address": ipv6
            .map(|(address, subnet)| format!("{address}/{}", subnet.prefix_len()))
            .unwrap_or_default(),
    })
}
