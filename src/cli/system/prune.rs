//! `system prune`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::cli::confirm::confirmed;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::cli::image::removed_lines;
use crate::container::filter::{self, Filter};
use crate::human;
use crate::image;
use crate::system::prune::{self, Pruned, VolumeFilter};

/// Options of `system prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Remove every image that no container has, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Remove only what matches: label, label!, until
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes that no container has too
    #[arg(long)]
    volumes: bool,
}

/// `system prune`.
pub fn run(args: &Prune, context: &Context) -> anyhow::Result<ExitCode> {
    let store = &context.store;
    let of_containers = Filter::parse(store, &args.filter, filter::OF_PRUNE)?;
    let known = ["label", "label!", "until"];
    let of_images = image::Filter::parse(store, &args.filter, &known)?;
    if args.volumes
        && args
            .filter
            .iter()
            .any(|filter| filter.starts_with("until="))
    {
        bail!("the \"until\" filter is not supported with \"--volumes\"");
    }
    if !args.force && !confirmed(&warning(args))? {
        return Ok(ExitCode::SUCCESS);
    }
    let mut freed = 0;
    let mut section = |title: &str, pruned: Pruned| {
        freed += pruned.freed;
        match pruned.removed.is_empty() {
            true => Ok(()),
            false => print(&format!(
                "Deleted {title}:\n{}\n\n",
                pruned.removed.join("\n")
            )),
        }
    };
    section("Containers", prune::containers(store, &of_containers)?)?;
    if args.filter.is_empty() {
        section("Networks", prune::networks(store)?)?;
    }
    if args.volumes {
        let filter = VolumeFilter::parse(&args.filter, false)?;
        section("Volumes", prune::volumes(store, &filter)?)?;
    }
    let users = |id: &_| context.users_of_image(id);
    let images = image::prune(store, &of_images, args.all, &users)?;
    let removed = Pruned {
        removed: removed_lines(&images.removed),
        freed: images.freed,
    };
    section("Images", removed)?;
    print(&format!(
        "Total reclaimed space: {}\n",
        human::exact_size(freed)
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn warning(args: &Prune) -> String {
    let mut text = "This will remove:\n  - all stopped containers\n".to_owned();
    if args.filter.is_empty() {
        text += "  - all networks not used by at least one container\n";
    }
    if args.volumes {
        text += "  - all anonymous volumes not used by at least one container\n";
    }
    text += match args.all {
        true => "  - all images without at least one container associated to them\n",
        false => "  - all dangling images\n",
    };
    if !args.filter.is_empty() {
        text += "\n  Items to be pruned will be filtered with:\n";
        for filter in &args.filter {
            text += &format!("  - {filter}\n");
        }
    }
    text
}
