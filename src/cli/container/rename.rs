//! `rename`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::cli::context::Context;
use crate::container::{lifecycle, members, name};

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

/// `rename`.
pub fn rename(args: &Rename, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    let name = name::validate(&args.name)?;
    if name == container.name {
        bail!("renaming a container with the same name as its current name");
    }
    if !members::rename(&context.store, &container, &name)? {
        bail!("the container name {name:?} is already in use");
    }
    Ok(ExitCode::SUCCESS)
}
