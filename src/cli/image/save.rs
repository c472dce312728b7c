//! `save`.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::arch::Platform;
use crate::cli::context::Context;
use crate::image::archive::{self, Selection};
use crate::store::Store;

const BUFFER: usize = 1 << 20;

/// Options of `save`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Save only the image for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `save`.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = &context.store;
    let output = args
        .output
        .as_deref()
        .filter(|path| *path != Path::new("-"));
    anyhow::ensure!(
        output.is_some() || !io::stdout().is_terminal(),
        "cowardly refusing to save to a terminal. Use the -o flag or redirect"
    );
    let images = archive::select(store, &args.images, args.platform.as_ref())?;
    match output {
        Some(path) => to_file(store, &images, path)?,
        None => {
            let mut output = BufWriter::with_capacity(BUFFER, io::stdout().lock());
            archive::save(store, &images, &mut output)?;
            output.flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes beside the target and renames, so that a failure leaves the old file as it was.
fn to_file(store: &Store, images: &[Selection], path: &Path) -> anyhow::Result<()> {
    if path.exists() && !path.is_file() {
        let file = std::fs::File::options().write(true).open(path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        archive::save(store, images, BufWriter::with_capacity(BUFFER, file))?;
        return Ok(());
    }
    let name = path
        .file_name()
        .with_context(|| format!("{} names no file", path.display()))?;
    let part = path.with_file_name(format!(".{}.part-{}", name.display(), std::process::id()));
    let write = || {
        let file = std::fs::File::create(&part)
            .with_context(|| format!("create a file beside {}", path.display()))?;
        archive::save(store, images, BufWriter::with_capacity(BUFFER, file))?;
        std::fs::rename(&part, path).with_context(|| format!("create {}", path.display()))
    };
    write().inspect_err(|_| {
        // What was written so far is of no use; that it stays is the lesser problem.
        let _ = std::fs::remove_file(&part);
    })
}
