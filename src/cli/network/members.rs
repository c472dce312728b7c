//! `network connect` and `network disconnect`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use clap::Args;

use crate::cli::context::Context;
use crate::container::{lifecycle, members};
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
    members::connect(&context.store, &container, &asked)?;
    Ok(ExitCode::SUCCESS)
}

/// `network disconnect`.
pub fn disconnect(args: &Disconnect, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    members::disconnect(&context.store, &container, &args.network)?;
    Ok(ExitCode::SUCCESS)
}
