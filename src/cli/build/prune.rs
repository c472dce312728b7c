//! `builder prune`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::cli::confirm::confirmed;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::human;
use crate::image::{self, Budget, Filter, Pruned, Removed};
use crate::units;

/// Options of `builder prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove every step, also those that lead to images with a name
    #[arg(short, long)]
    all: bool,
    /// Which steps: until=24h takes those that are older
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Remove the longest unused until so much is left, as in 10g
    #[arg(long, value_name = "SIZE", alias = "reserved-space")]
    keep_storage: Option<String>,
    /// The same by buildx's name
    #[arg(long, value_name = "SIZE")]
    max_used_space: Option<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// `builder prune`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let filter = Filter::parse(&context.store, &args.filter, &["until"])?;
    let what = match args.all {
        true => "all build cache",
        false => "all dangling build cache",
    };
    if !args.force && !confirmed(&format!("This will remove {what}."))? {
        return Ok(ExitCode::SUCCESS);
    }
    let users = |id: &_| context.users_of_image(id);
    let sizes = args.keep_storage.iter().chain(&args.max_used_space);
    let sizes = sizes.map(|size| units::parse_bytes(size));
    let sizes = sizes.collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(bytes) = sizes.into_iter().max() {
        let budget = Budget {
            bytes: Some(bytes),
            used_since: None,
        };
        let keep = BTreeSet::new();
        let pruned = image::shrink_builds(&context.store, &filter, budget, &keep, &users)?;
        return tell(&pruned, pruned.freed);
    }
    let pruned = image::prune_builds(&context.store, &filter, args.all, &users)?;
    // What commands keep has no age.
    let caches = match args.filter.is_empty() {
        true => context.store.remove_build_caches()?,
        false => 0,
    };
    tell(&pruned, pruned.freed + caches)
}

fn tell(pruned: &Pruned, freed: u64) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    for removed in &pruned.removed {
        if let Removed::Deleted(id) = removed {
            text += &format!("deleted: {id}\n");
        }
    }
    text += &format!("Total:\t{}\n", human::exact_size(freed));
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
