//! `image stack`, and `run --with`: images of several parents.

use std::process::ExitCode;

use super::pull::obtain;
use crate::arch::Platform;
use crate::build::DEFAULT_EPOCH;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::format::print;
use crate::image::{self, Image, PullPolicy, Reference, Stacked};

/// Options of `image stack`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name and optionally a tag for the image
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Option<Reference>,
    /// Fail when two images bring different files or variables of one name
    #[arg(long)]
    strict: bool,
    /// Which images, where names stand for several platforms'
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// The base
    #[arg(value_name = "BASE")]
    base: String,
    /// What is put on top, in this order
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `image stack`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let platform = args.platform.as_ref();
    let base = obtain(context, &args.base, platform, PullPolicy::Missing, false)?;
    let images = all(
        context,
        (&args.base, base),
        &args.images,
        PullPolicy::Missing,
        false,
    )?;
    let name = args.tag.as_ref().filter(|_| !args.strict);
    let stacked = image::stack(&context.store, &images, name, &created())?;
    tell(&stacked);
    if args.strict && !stacked.conflicts.is_empty() {
        return Err(Failure::new(1, "the images do not go together, see above").into());
    }
    if let (true, Some(tag)) = (args.strict, &args.tag) {
        image::tag(&context.store, &stacked.image.id.to_string(), tag, None)?;
    }
    print(&format!("{}\n", stacked.image.id))?;
    Ok(ExitCode::SUCCESS)
}

/// The image of a base and others on top, for `run --with`.
pub fn with(
    context: &Context,
    base: (&str, Image),
    others: &[String],
    policy: PullPolicy,
    quiet: bool,
) -> anyhow::Result<Image> {
    let images = all(context, base, others, policy, quiet)?;
    let stacked = image::stack(&context.store, &images, None, &created())?;
    if !quiet {
        tell(&stacked);
    }
    Ok(stacked.image)
}

fn all(
    context: &Context,
    base: (&str, Image),
    others: &[String],
    policy: PullPolicy,
    quiet: bool,
) -> anyhow::Result<Vec<(String, Image)>> {
    let platform = base.1.platform.clone();
    let mut images = vec![(base.0.to_owned(), base.1)];
    for name in others {
        let image = obtain(context, name, Some(&platform), policy, quiet)?;
        images.push((name.clone(), image));
    }
    Ok(images)
}

fn created() -> String {
    jiff::Timestamp::from_second(DEFAULT_EPOCH)
        .unwrap_or_default()
        .to_string()
}

fn tell(stacked: &Stacked) {
    for conflict in &stacked.conflicts {
        eprintln!("hull: conflict: {conflict}");
    }
    if stacked.more > 0 {
        eprintln!("hull: and {} conflicts more", stacked.more);
    }
}
