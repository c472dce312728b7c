//! `pull`, and what `run` does with an image that is not here.

use std::process::ExitCode;

use super::{Stream, reporter};
use crate::arch::Platform;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::image::{self, Image, PullPolicy, Reference};

/// Options of `pull`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Accepted and ignored: hull has no content trust
    #[arg(long, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// NAME[:TAG|@DIGEST]
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

/// `pull`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let reference: Reference = args.name.parse()?;
    let progress = reporter(Stream::Out, args.quiet);
    let (store, settings) = (&context.store, &context.settings);
    if args.all_tags {
        anyhow::ensure!(
            reference.tag().is_none() && reference.digest().is_none(),
            "tag can't be used with --all-tags/-a"
        );
        for tag in image::tags(settings, &reference)? {
            image::pull(store, settings, &tag, args.platform.as_ref(), &*progress)?;
        }
        print(&format!("{}\n", reference.canonical_name()))?;
        return Ok(ExitCode::SUCCESS);
    }
    if reference.tag().is_none() && reference.digest().is_none() {
        progress.line("Using default tag: latest");
    }
    image::pull(
        store,
        settings,
        &reference,
        args.platform.as_ref(),
        &*progress,
    )?;
    print(&format!("{}\n", reference.with_default_tag().canonical()))?;
    Ok(ExitCode::SUCCESS)
}

/// The image for `run` and `create`, pulled first where the policy asks for it; progress goes to
/// the standard error.
pub fn obtain(
    context: &Context,
    name: &str,
    platform: Option<&Platform>,
    policy: PullPolicy,
    quiet: bool,
) -> anyhow::Result<Image> {
    let progress = reporter(Stream::Error, quiet);
    let (store, settings) = (&context.store, &context.settings);
    Ok(image::ensure(
        store, settings, name, platform, policy, &*progress,
    )?)
}
