//! `container prune`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::confirm::confirmed;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::container::filter::{self, Filter};
use crate::human;
use crate::system::prune;

/// Options of `container prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Remove only what matches: label, label!, until
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// `container prune`.
pub fn run(args: &Prune, context: &Context) -> anyhow::Result<ExitCode> {
    let filter = Filter::parse(&context.store, &args.filter, filter::OF_PRUNE)?;
    let warning = "This will remove all stopped containers.";
    if !args.force && !confirmed(warning)? {
        return Ok(ExitCode::SUCCESS);
    }
    let pruned = prune::containers(&context.store, &filter)?;
    if !pruned.removed.is_empty() {
        let ids = pruned.removed.join("\n");
        print(&format!("Deleted Containers:\n{ids}\n\n"))?;
    }
    let freed = human::exact_size(pruned.freed);
    print(&format!("Total reclaimed space: {freed}\n"))?;
    Ok(ExitCode::SUCCESS)
}
