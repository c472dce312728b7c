//! `network connect` and `network disconnect`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use clap::Args;

use crate::cli::context::Context;
use crate::container::{lifecycle, members, options};
use crate::network::record::Attachment;

/// Options of `network connect`.
#[derive(Debug, Args)]
pub struct Connect {
    /// Another name on the network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// IPv4 address on the network
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address on the network
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Make another container known by a name
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// Option of docker's driver: accepted, without effect
    #[arg(long, value_name = "NAME=VALUE")]
    driver_opt: Vec<String>,
    /// The network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Options of `network disconnect`.
#[derive(Debug, Args)]
pub struct Disconnect {
    /// Accepted; what can be taken out is taken out
    #[arg(short, long)]
    force: bool,
    /// The network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// `network connect`.
pub fn connect(args: &Connect, context: &Context) -> anyhow::Result<ExitCode> {
    let asked = Attachment {
        network: args.network.clone(),
        aliases: args.alias.clone(),
        ipv4: args.ip,
        ipv6: args.ip6,
        mac: None,
    };
    let container = lifecycle::find(&context.store, &args.container)?;
    let links: Vec<_> = args.link.iter().map(|spec| options::link(spec)).collect();
    members::connect(&context.store, &container, &asked)?;
    let linked = members::link(&context.store, &container, &links);
    if linked.is_err() {
        members::disconnect(&context.store, &container, &args.network)?;
    }
    linked?;
    Ok(ExitCode::SUCCESS)
}

/// `network disconnect`.
pub fn disconnect(args: &Disconnect, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    members::disconnect(&context.store, &container, &args.network)?;
    Ok(ExitCode::SUCCESS)
}
