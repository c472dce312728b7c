//! `rename`, `restart`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::for_each;
use crate::cli::context::Context;
use crate::container::control::Attach;
use crate::container::{launch, lifecycle, name};

/// Options of `rename`.
#[derive(Debug, Args)]
pub struct Rename {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its new name
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

/// Options of `restart`.
#[derive(Debug, Args)]
pub struct Restart {
    /// Seconds until SIGKILL; a negative number waits for ever
    #[arg(
        short,
        long,
        alias = "timeout",
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

/// `rename`.
pub fn rename(args: &Rename, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    let name = name::validate(&args.name)?;
    if name == container.name {
        bail!("renaming a container with the same name as its current name");
    }
    if !context.store.rename_container(&container.id, &name)? {
        bail!("the container name {name:?} is already in use");
    }
    Ok(ExitCode::SUCCESS)
}

/// `restart`.
pub fn restart(args: &Restart, context: &Context) -> anyhow::Result<ExitCode> {
    for_each(&args.containers, |name| {
        let store = &context.store;
        let container = lifecycle::find(store, name)?;
        lifecycle::stop(store, &container, args.signal.as_deref(), args.time)?;
        // What the store has of it now: that it ended.
        let container = lifecycle::find(store, &container.id)?;
        launch::start(store, &container, Attach::default(), None)?;
        println!("{name}");
        Ok(())
    })
}
