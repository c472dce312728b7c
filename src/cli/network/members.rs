//! `network connect` and `network disconnect`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::cli::context::Context;
use crate::container::lifecycle;
use crate::container::record::Container;
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
    let container = stopped(&args.container, context)?;
    if container.config.network.is_none() {
        bail!(
            "container {} was made without networks, and cannot be connected to one",
            container.name
        );
    }
    let asked = Attachment {
        network: args.network.clone(),
        aliases: args.alias.clone(),
        ipv4: args.ip,
        ipv6: args.ip6,
        mac: None,
    };
    context
        .store
        .connect_container(&container.id, &container.name, &asked)??;
    Ok(ExitCode::SUCCESS)
}

/// `network disconnect`.
pub fn disconnect(args: &Disconnect, context: &Context) -> anyhow::Result<ExitCode> {
    let container = stopped(&args.container, context)?;
    let network = context.store.find_network(&args.network)??;
    if !context
        .store
        .disconnect_container(&container.id, &network.id)?
    {
        bail!(
            "container {} is not connected to network {}",
            container.name,
            network.name
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// A container whose interfaces can change.
fn stopped(name: &str, context: &Context) -> anyhow::Result<Container> {
    let container = lifecycle::find(&context.store, name)?;
    if container.state.status.is_live() {
        bail!(
            "container {} is running, and a machine has the interfaces that it was started with: stop it first",
            container.name
        );
    }
    Ok(container)
}
