//! `push`.

use std::process::ExitCode;

use super::{Stream, reporter};
use crate::arch::Platform;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::image::{self, ImageError, Reference};

/// Options of `push`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// Push a platform-specific manifest
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Accepted and ignored: hull has no content trust
    #[arg(long, num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// NAME[:TAG]
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

/// `push`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let reference: Reference = args.name.parse()?;
    let progress = reporter(Stream::Out, args.quiet);
    let references = match args.all_tags {
        true if reference.tag().is_some() => {
            anyhow::bail!("tag can't be used with --all-tags/-a")
        }
        true => image::local_tags(&context.store, &reference)?,
        false => {
            if reference.tag().is_none() && reference.digest().is_none() {
                progress.line("Using default tag: latest");
            }
            vec![reference.clone()]
        }
    };
    if references.is_empty() {
        return Err(ImageError::NoTag(reference.familiar_name()).into());
    }
    for one in references {
        let (store, settings) = (&context.store, &context.settings);
        image::push(store, settings, &one, args.platform.as_ref(), &*progress)?;
        if args.quiet {
            print(&format!("{}\n", one.with_default_tag().canonical()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
