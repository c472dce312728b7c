//! `diff`.

use std::process::ExitCode;

use clap::Args;
use guest_agent::protocol::{Change, ChangeKind, Task};

use crate::cli::context::Context;
use crate::cli::format::print;
use crate::container::files::Files;
use crate::container::lifecycle;

/// Options of `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// `diff`.
pub fn run(args: &Diff, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    let changes: Vec<Change> = Files::open(&context.store, &container)?.values(Task::Changes)?;
    let mut text = String::new();
    for change in changes {
        let letter = match change.kind {
            ChangeKind::Modified => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        text += &format!("{letter} {}\n", change.path);
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
