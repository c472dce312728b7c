//! `compare`.

mod table;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::arch::Platform;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::cli::image::pull::obtain;
use crate::cli::terminal;
use crate::compare::{self, Options};
use crate::image::{Image, PullPolicy};
use crate::page::{self, Script};

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// How often everything is measured
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// Idle instances at once, for the memory of one; 0 measures none
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=100))]
    instances: u16,
    /// Only these columns, as in process,container,uml,tcg-arm64
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    only: Vec<String>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Write a page for a browser: one file that works offline and prints well
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Say nothing while it goes on
    #[arg(short, long)]
    quiet: bool,
    /// The image; as a plain process it runs without any wall: take one that you trust
    #[arg(value_name = "IMAGE")]
    image: String,
    /// A command of the image that is measured too
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// `compare`.
pub fn run(args: &Compare, context: &Context) -> anyhow::Result<ExitCode> {
    let get = |platform: Option<&Platform>| -> anyhow::Result<Image> {
        obtain(
            context,
            &args.image,
            platform,
            PullPolicy::Missing,
            args.quiet,
        )
    };
    let native = Platform::host();
    let foreign = compare::other(&native);
    let own = get(Some(&native))?;
    let wants_foreign = args.only.is_empty()
        || args
            .only
            .iter()
            .any(|id| id.ends_with(&foreign.architecture));
    let mut images = vec![(native, Ok(own))];
    if wants_foreign {
        let image = get(Some(&foreign)).map_err(|error| format!("{error:#}"));
        images.push((foreign, image));
    }
    let options = Options {
        name: args.image.clone(),
        command: args.command.clone(),
        runs: args.runs.into(),
        instances: args.instances.into(),
        only: args.only.clone(),
    };
    let told = |text: &str| {
        if !args.quiet {
            eprintln!("{text}");
        }
    };
    let report = compare::compare(&context.store, &context.settings, &images, &options, &told)?;
    context
        .store
        .add_report(&report.begun, &serde_json::to_vec(&report)?)?;
    if let Some(file) = &args.html {
        let title = format!("{}: process, container, microVM", args.image);
        let page = page::page(&title, Script::Compare, &serde_json::to_value(&report)?);
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    match args.json {
        true => print(&(serde_json::to_string_pretty(&report)? + "\n"))?,
        false => {
            let size = terminal::window_size().filter(|_| io::stdout().is_terminal());
            let width = size.map_or(usize::MAX, |size| size.columns.into());
            print(&table::table(&report, width))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
