//! `export`.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use guest_agent::protocol::Task;

use crate::cli::context::Context;
use crate::container::files::Files;
use crate::container::lifecycle;
use crate::events::Note;

/// Options of `export`.
#[derive(Debug, Args)]
pub struct Export {
    /// Write to a file in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// `export`.
pub fn run(args: &Export, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    if args.output.is_none() && io::stdout().is_terminal() {
        bail!("cowardly refusing to save to a terminal, use -o FILE or redirect");
    }
    context
        .store
        .note_container(&container.id, &[Note::new("export")])?;
    let Some(path) = &args.output else {
        let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Files::open(&context.store, &container)?.copy_to(Task::Export, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    };
    // Beside the target, so that a broken export never looks like a whole one.
    let partial = path.with_extension("hull-partial");
    let mut out =
        File::create(&partial).with_context(|| format!("making the file {}", partial.display()))?;
    let done = Files::open(&context.store, &container)
        .and_then(|files| files.copy_to(Task::Export, &mut out))
        .map_err(anyhow::Error::from)
        .and_then(|_| Ok(out.flush()?))
        .and_then(|()| Ok(std::fs::rename(&partial, path)?));
    if done.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    done?;
    Ok(ExitCode::SUCCESS)
}
