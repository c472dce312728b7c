//! `network create`.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
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
    /// An address that no container gets, for what is outside of hull
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// Give IPv4 addresses: every network does
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv4: Option<bool>,
    /// Give IPv6 addresses too; needs a --subnet for them
    #[arg(long)]
    ipv6: bool,
    /// Driver of addresses: only default is there
    #[arg(long, default_value = "default")]
    ipam_driver: String,
    /// Scope: only local is there
    #[arg(long, default_value = "local")]
    scope: String,
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
    if args.ipam_driver != "default" {
        bail!(
            "address driver {:?} is not there, use default",
            args.ipam_driver
        );
    }
    if args.scope != "local" {
        bail!("scope {:?} is not there, use local", args.scope);
    }
    if args.ipv4 == Some(false) {
        bail!("a network without IPv4 addresses is not there, leave out --ipv4=false");
    }
    let auxiliary = args.aux_address.iter().map(|text| {
        let pair = text.split_once('=');
        let parsed = pair.and_then(|(name, ip)| Some((name.to_owned(), ip.parse().ok()?)));
        parsed.with_context(|| format!("invalid auxiliary address {text:?}, use NAME=ADDRESS"))
    });
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    let asked = NewNetwork {
        name: args.name.clone(),
        subnets: args.subnet.clone(),
        gateways: args.gateway.clone(),
        range: args.ip_range,
        auxiliary: auxiliary.collect::<anyhow::Result<_>>()?,
        ipv6: args.ipv6,
        internal: args.internal,
        labels: args.label.iter().map(pair).collect(),
        options: args.opt.iter().map(pair).collect(),
    };
    let network = manage::create(&context.store, &asked, now_ns())?;
    print(&format!("{}\n", network.id))?;
    Ok(ExitCode::SUCCESS)
}
