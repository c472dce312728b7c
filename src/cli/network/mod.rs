//! `network`.

mod create;
mod list;
mod members;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::confirm::confirmed;
use super::context::Context;
use super::failure::sentence;
use super::format::print;
use crate::container::network_view::{self, RemoveError};
use crate::system::prune;

/// Commands under `network`.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// Make a network
    Create(create::Create),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(list::Ls),
    /// Show everything about networks
    Inspect(list::Inspect),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Remove networks that no container is in
    Prune(Prune),
    /// Connect a container to a network
    Connect(members::Connect),
    /// Take a container out of a network
    Disconnect(members::Disconnect),
}

/// Options of `network rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// Do not complain about what is not there
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

/// Options of `network prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Runs a command under `network`.
pub fn run(group: &Group, context: &Context) -> anyhow::Result<ExitCode> {
    match group {
        Group::Create(args) => create::run(args, context),
        Group::Ls(args) => list::ls(args, context),
        Group::Inspect(args) => list::inspect(args, context),
        Group::Rm(args) => rm(args, context),
        Group::Prune(args) => prune(args, context),
        Group::Connect(args) => members::connect(args, context),
        Group::Disconnect(args) => members::disconnect(args, context),
    }
}

fn rm(args: &Rm, context: &Context) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        match network_view::remove(&context.store, name) {
            Ok(()) => print(&format!("{name}\n"))?,
            Err(RemoveError::Missing(_)) if args.force => {}
            Err(error) => {
                eprintln!("hull: {}", sentence(&error.into()));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn prune(args: &Prune, context: &Context) -> anyhow::Result<ExitCode> {
    let warning = "This will remove all custom networks not used by at least one container.";
    if !args.force && !confirmed(warning)? {
        return Ok(ExitCode::SUCCESS);
    }
    let names = prune::networks(&context.store)?.removed;
    if !names.is_empty() {
        print(&format!("Deleted Networks:\n{}\n\n", names.join("\n")))?;
    }
    Ok(ExitCode::SUCCESS)
}
