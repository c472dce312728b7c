//! `load`.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::arch::Platform;
use crate::cli::context::Context;
use crate::cli::format::print;
use crate::image::archive;

/// Options of `load`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
    /// Load only the image for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
}

/// `load`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let input = match &args.input {
        Some(path) => open(path)?,
        None => {
            anyhow::ensure!(
                !io::stdin().is_terminal(),
                "requested load from stdin, but stdin is empty"
            );
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        }
    };
    let on_terminal = !args.quiet && io::stderr().is_terminal();
    let progress = super::reporter(super::Stream::Error, !on_terminal);
    let (store, settings) = (&context.store, &context.settings);
    let loaded = archive::load(store, settings, input, args.platform.as_ref(), &*progress)?;
    let mut lines = String::new();
    for one in loaded {
        for name in &one.names {
            lines += &format!("Loaded image: {name}\n");
        }
        if one.names.is_empty() {
            lines += &format!("Loaded image ID: {}\n", one.image.id);
        }
    }
    print(&lines)?;
    Ok(ExitCode::SUCCESS)
}

/// Opens a file that the user named.
pub fn open(path: &PathBuf) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}
