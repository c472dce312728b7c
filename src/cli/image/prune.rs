//! `image prune`.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use crate::cli::context::Context;
use crate::cli::format::print;
use crate::cli::human;
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
    if !args.force && !confirmed(all)? {
        return Ok(ExitCode::SUCCESS);
    }
    let users = |id: &_| context.users_of_image(id);
    let pruned = image::prune(&context.store, &filter, all, &users)?;
    let mut text = String::new();
    if !pruned.removed.is_empty() {
        text.push_str("Deleted Images:\n");
    }
    for removed in &pruned.removed {
        match removed {
            Removed::Untagged(name) => text += &format!("untagged: {name}\n"),
            Removed::Deleted(id) => text += &format!("deleted: {id}\n"),
        }
    }
    if !pruned.removed.is_empty() {
        text.push('\n');
    }
    text += &format!(
        "Total reclaimed space: {}\n",
        human::exact_size(pruned.freed)
    );
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn confirmed(all: bool) -> anyhow::Result<bool> {
    let what = match all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    let mut output = io::stdout().lock();
    write!(
        output,
        "WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] "
    )?;
    output.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
