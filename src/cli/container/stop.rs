//! `stop`, `restart`, `kill`, `wait`, `rm`.

use std::process::ExitCode;

use clap::Args;

use super::for_each;
use crate::cli::context::Context;
use crate::container::launch;
use crate::container::lifecycle::{self, LifecycleError};

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

/// `rm`.
pub fn rm(args: &Rm, context: &Context) -> anyhow::Result<ExitCode> {
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
