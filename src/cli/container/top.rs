//! `top`.

use std::process::ExitCode;

use clap::Args;
use guest_agent::protocol::Task;

use crate::cli::context::Context;
use crate::cli::format::{print, write_table};
use crate::container::files::Files;
use crate::container::{lifecycle, top};
use crate::events::Note;

/// Options of `top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Options of ps: -ef, aux, or -o and columns
    #[arg(
        value_name = "PS OPTIONS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

/// `top`.
pub fn run(args: &Top, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    lifecycle::must_run(&container)?;
    let files = Files::open(&context.store, &container)?;
    let processes = files.values(Task::Processes)?;
    let table = top::table(&processes, &args.options, container.config.memory)?;
    context
        .store
        .note_container(&container.id, &[Note::new("top")])?;
    let lines: Vec<String> = [&table.titles]
        .into_iter()
        .chain(&table.rows)
        .map(|cells| cells.join("\t"))
        .collect();
    print(&write_table(&lines))?;
    Ok(ExitCode::SUCCESS)
}
