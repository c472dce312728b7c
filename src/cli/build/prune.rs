//! `builder prune`.

use std::process::ExitCode;

use crate::cli::confirm::confirmed;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::human;
use crate::image::{self, Filter, Removed};

/// Options of `builder prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove every step, also those that lead to images with a name
    #[arg(short, long)]
    all: bool,
    /// Which steps: until=24h takes those that are older
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
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
    let pruned = image::prune_builds(&context.store, &filter, args.all, &users)?;
    // What commands keep has no age.
    let caches = match args.filter.is_empty() {
        true => context.store.remove_build_caches()?,
        false => 0,
    };
    let mut text = String::new();
    for removed in &pruned.removed {
        if let Removed::Deleted(id) = removed {
            text += &format!("deleted: {id}\n");
        }
    }
    text += &format!("Total:\t{}\n", human::exact_size(pruned.freed + caches));
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
