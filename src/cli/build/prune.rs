//! `builder prune`.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use crate::cli::context::Context;
use crate::cli::format::print;
use crate::cli::human;
use crate::image::{self, Removed};

/// Options of `builder prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove every step, also those that lead to images with a name
    #[arg(short, long)]
    all: bool,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// `builder prune`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    if !args.force && !confirmed(args.all)? {
        return Ok(ExitCode::SUCCESS);
    }
    let users = |id: &_| context.users_of_image(id);
    let pruned = image::prune_builds(&context.store, args.all, &users)?;
    let caches = context.store.remove_build_caches()?;
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

fn confirmed(all: bool) -> anyhow::Result<bool> {
    let what = match all {
        true => "all build cache",
        false => "all dangling build cache",
    };
    let mut output = io::stdout().lock();
    write!(
        output,
        "WARNING! This will remove {what}. Are you sure you want to continue? [y/N] "
    )?;
    output.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
