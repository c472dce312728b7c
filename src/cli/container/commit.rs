//! `commit`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::format::print;
use crate::container::{commit, lifecycle};
use crate::events::Note;
use crate::image;

/// Options of `commit`.
#[derive(Debug, Args)]
pub struct Commit {
    /// Who makes the image, as in "Ann <ann@example.com>"
    #[arg(short, long)]
    author: Option<String>,
    /// Apply a Dockerfile instruction to the image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A comment
    #[arg(short, long)]
    message: Option<String>,
    /// Pause the container meanwhile
    #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", overrides_with = "no_pause")]
    pause: bool,
    /// Do not pause the container
    #[arg(long)]
    no_pause: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// `commit`.
pub fn run(args: &Commit, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    let asked = image::Commit {
        reference: args.name.as_deref().map(str::parse).transpose()?,
        changes: args.change.clone(),
        author: args.author.clone(),
        message: args.message.clone(),
        ..image::Commit::default()
    };
    let pause = args.pause && !args.no_pause;
    let (store, settings) = (&context.store, &context.settings);
    let made = commit::commit(store, settings, &container, asked, pause)?;
    let note = Note::new("commit").with("imageID", made.id);
    store.note_container(&container.id, &[note])?;
    print(&format!("{}\n", made.id))?;
    Ok(ExitCode::SUCCESS)
}
