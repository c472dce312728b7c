//! `stop`, `restart`, `kill`, `wait`, `rm`.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use super::for_each;
use crate::cli::context::Context;
use crate::container::launch;
use crate::container::lifecycle::{self, LifecycleError};
use crate::container::members;

/// Options of `stop` and `restart`.
#[derive(Debug, Args)]
pub struct Stop {
    /// Seconds until SIGKILL; a negative number waits for ever
    #[arg(
        short = 't',
        long = "timeout",
        alias = "time",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    time: Option<i64>,
    /// Signal to send in place of the container's own
    #[arg(short, long)]
    signal: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Options of `kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// Signal to send
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Options of `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Options of `rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// Remove running containers too
    #[arg(short, long)]
    force: bool,
    /// Remove the containers' anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// Remove links, given as CONTAINER/ALIAS, instead of containers
    #[arg(short, long, conflicts_with_all = ["force", "volumes"])]
    link: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// `stop`.
pub fn stop(args: &Stop, context: &Context) -> anyhow::Result<ExitCode> {
    for_each(&args.containers, |name| {
        let container = lifecycle::find(&context.store, name)?;
        lifecycle::stop(
            &context.store,
            &container,
            args.signal.as_deref(),
            args.time,
            true,
        )?;
        println!("{name}");
        Ok(())
    })
}

/// `restart`.
pub fn restart(args: &Stop, context: &Context) -> anyhow::Result<ExitCode> {
    for_each(&args.containers, |name| {
        let store = &context.store;
        let container = lifecycle::find(store, name)?;
        launch::restart(store, &container, args.signal.as_deref(), args.time)?;
        println!("{name}");
        Ok(())
    })
}

/// `kill`.
pub fn kill(args: &Kill, context: &Context) -> anyhow::Result<ExitCode> {
    let signal = lifecycle::signal_number(&args.signal)?;
    for_each(&args.containers, |name| {
        let container = lifecycle::find(&context.store, name)?;
        lifecycle::kill(&context.store, &container, signal)?;
        println!("{name}");
        Ok(())
    })
}

/// `wait`.
pub fn wait(args: &Wait, context: &Context) -> anyhow::Result<ExitCode> {
    for_each(&args.containers, |name| {
        let container = lifecycle::find(&context.store, name)?;
        println!("{}", lifecycle::wait(&context.store, &container)?);
        Ok(())
    })
}

/// `CONTAINER/ALIAS`, as docker has it with a slash before it.
fn unlink(name: &str, context: &Context) -> anyhow::Result<()> {
    let parts = name.trim_start_matches('/').split_once('/');
    let (container, alias) =
        parts.with_context(|| format!("{name} names no link, use CONTAINER/ALIAS"))?;
    let container = lifecycle::find(&context.store, container)?;
    if !members::unlink(&context.store, &container, alias)? {
        bail!("container {} has no link {alias}", container.name);
    }
    Ok(())
}

/// `rm`.
pub fn rm(args: &Rm, context: &Context) -> anyhow::Result<ExitCode> {
    if args.link {
        return for_each(&args.containers, |name| {
            unlink(name, context)?;
            println!("{name}");
            Ok(())
        });
    }
    for_each(&args.containers, |name| {
        let container = match lifecycle::find(&context.store, name) {
            Ok(container) => container,
            // As docker: forced removal of what is not there is done already.
            Err(error @ LifecycleError::NotFound(_)) if args.force => {
                eprintln!("hull: {error}");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        lifecycle::remove(&context.store, &container, args.force, args.volumes)?;
        println!("{name}");
        Ok(())
    })
}
