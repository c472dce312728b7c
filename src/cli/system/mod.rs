//! `system`: everything at once.

mod df;
mod prune;
mod unit;

use std::process::ExitCode;

use clap::Subcommand;

use super::context::Context;
use super::failure::sentence;
use super::{events, info};
use crate::system::boot;

/// Commands under `system`.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// Show what everything takes on the disk
    Df(df::Df),
    /// Show what happens to containers, images and volumes
    Events(events::Events),
    /// Show what hull is set up with
    Info(info::Info),
    /// Remove what nobody uses
    Prune(prune::Prune),
    /// Start the containers whose restart policy says so, as after a reboot
    Resume,
    /// Stop all containers, so that resume starts them again, as before a reboot
    Suspend,
    /// Print a systemd unit
    Unit(unit::Unit),
}

/// Runs a command under `system`.
pub fn run(group: &Group, context: &Context) -> anyhow::Result<ExitCode> {
    match group {
        Group::Df(args) => df::run(args, context),
        Group::Events(args) => events::run(args, context),
        Group::Info(args) => info::info(args, context),
        Group::Prune(args) => prune::run(args, context),
        Group::Resume => Ok(report(boot::resume(&context.store)?)),
        Group::Suspend => Ok(report(boot::suspend(&context.store)?)),
        Group::Unit(args) => unit::run(args, context),
    }
}

fn report<E: Into<anyhow::Error>>(outcomes: Vec<boot::Outcome<E>>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for (container, outcome) in outcomes {
        match outcome {
            Ok(()) => println!("{}", container.name),
            Err(error) => {
                eprintln!("hull: {}: {}", container.name, sentence(&error.into()));
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
