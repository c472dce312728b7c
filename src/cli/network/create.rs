//! `network create`.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use ipnet::{IpNet, Ipv4Net};

use crate::cli::context::Context;
use crate::cli::format::print;
use crate::container::record::now_ns;
use crate::network::manage::{self, NewNetwork};

/// Options of `network create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Driver: only bridge is there
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// Its addresses, as in 10.5.0.0/16
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<IpNet>,
    /// The bridge's address
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<IpAddr>,
    /// The part of the subnet that containers get addresses of
    #[arg(long, value_name = "SUBNET")]
    ip_range: Option<Ipv4Net>,
    /// Give IPv6 addresses too; needs a --subnet for them
    #[arg(long)]
    ipv6: bool,
    /// Let nothing outside
    #[arg(long)]
    internal: bool,
    /// Accepted; containers can always be connected by hand
    #[arg(long)]
    attachable: bool,
    /// Set a label
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Option of docker's driver: kept and shown, without effect
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// Its name
    #[arg(value_name = "NETWORK")]
    name: String,
}

/// `network create`.
pub fn run(args: &Create, context: &Context) -> anyhow::Result<ExitCode> {
    if args.driver != "bridge" {
        bail!("network driver {:?} is not there, use bridge", args.driver);
    }
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    let asked = NewNetwork {
        name: args.name.clone(),
        subnets: args.subnet.clone(),
        gateways: args.gateway.clone(),
        range: args.ip_range,
        ipv6: args.ipv6,
        internal: args.internal,
        labels: args.label.iter().map(pair).collect(),
        options: args.opt.iter().map(pair).collect(),
    };
    let network = manage::create(&context.store, &asked, now_ns())?;
    print(&format!("{}\n", network.id))?;
    Ok(ExitCode::SUCCESS)
}
