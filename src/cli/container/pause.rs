//! `pause`, `unpause`.

use std::process::ExitCode;

use clap::Args;

use super::for_each;
use crate::cli::context::Context;
use crate::container::lifecycle;

/// Options of `pause` and `unpause`.
#[derive(Debug, Args)]
pub struct Pause {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// `pause` and, with `on` false, `unpause`.
pub fn run(args: &Pause, on: bool, context: &Context) -> anyhow::Result<ExitCode> {
    for_each(&args.containers, |name| {
        let container = lifecycle::find(&context.store, name)?;
        lifecycle::pause(&context.store, &container, on)?;
        println!("{name}");
        Ok(())
    })
}
