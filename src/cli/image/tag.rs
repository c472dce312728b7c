//! `tag`.

use std::process::ExitCode;

use crate::arch::Platform;
use crate::cli::context::Context;
use crate::image;

/// Options of `tag`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which image, where the name stands for several platforms'
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// The image
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// Its new name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

/// `tag`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let target = args.target.parse().map_err(|error| {
        anyhow::anyhow!("{:?} is not a valid repository/tag: {error}", args.target)
    })?;
    image::tag(
        &context.store,
        &args.source,
        &target,
        args.platform.as_ref(),
    )?;
    Ok(ExitCode::SUCCESS)
}
