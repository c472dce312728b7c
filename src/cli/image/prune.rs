//! `image prune`.

use std::process::ExitCode;

use crate::cli::confirm::confirmed;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::human;
use crate::image::{self, Filter, Removed};

/// Options of `image prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// `image prune`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let filter = Filter::parse(
        &context.store,
        &args.filter,
        &["dangling", "label", "label!", "until"],
    )?;
    let all = args.all || filter.dangling() == Some(false);
    let what = match all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    if !args.force && !confirmed(&format!("This will remove {what}."))? {
        return Ok(ExitCode::SUCCESS);
    }
    let users = |id: &_| context.users_of_image(id);
    let pruned = image::prune(&context.store, &filter, all, &users)?;
    let mut text = String::new();
    if !pruned.removed.is_empty() {
        let lines = removed_lines(&pruned.removed).join("\n");
        text = format!("Deleted Images:\n{lines}\n\n");
    }
    text += &format!(
        "Total reclaimed space: {}\n",
        human::exact_size(pruned.freed)
    );
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What an image prune took away, in docker's words.
pub fn removed_lines(removed: &[Removed]) -> Vec<String> {
    let line = |removed: &Removed| match removed {
        Removed::Untagged(name) => format!("untagged: {name}"),
        Removed::Deleted(id) => format!("deleted: {id}"),
    };
    removed.iter().map(line).collect()
}
