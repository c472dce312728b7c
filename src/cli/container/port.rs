//! `port`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::cli::context::Context;
use crate::cli::format::print;
use crate::container::lifecycle;
use crate::network::ports::{Bound, parse_exposed, shown};

/// Options of `port`.
#[derive(Debug, Args)]
pub struct Port {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Only this port of the container, as in 80 or 53/udp
    #[arg(value_name = "PORT")]
    port: Option<String>,
}

/// `port`.
pub fn run(args: &Port, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    let mut bound = container.state.ports.clone();
    bound.sort_by_key(|b| (b.port, b.protocol, b.host_ip.is_ipv6(), b.host_port));
    let place = |b: &Bound| format!("{}:{}", shown(b.host_ip), b.host_port);
    let Some(wanted) = &args.port else {
        let line = |b: &Bound| format!("{}/{} -> {}\n", b.port, b.protocol, place(b));
        print(&bound.iter().map(line).collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    };
    let asked = parse_exposed(wanted)?;
    let found: String = bound
        .iter()
        .filter(|b| asked.contains(&(b.port, b.protocol)))
        .map(|b| place(b) + "\n")
        .collect();
    if found.is_empty() {
        let name = &container.name;
        bail!("No public port '{wanted}' published for {name}");
    }
    print(&found)?;
    Ok(ExitCode::SUCCESS)
}
