//! `cp`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::cli::context::Context;
use crate::container::copy::{self, Options};
use crate::container::lifecycle;
use crate::events::Note;
use crate::human;

/// Options of `cp`.
#[derive(Debug, Args)]
#[command(
    override_usage = "hull cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       \
    hull cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH"
)]
pub struct Cp {
    /// Keep owners, and set-id bits and devices too
    #[arg(short, long)]
    archive: bool,
    /// Copy what a symbolic link leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing when it is done
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, a path on the host, or - for an archive on standard input
    #[arg(value_name = "SOURCE", allow_hyphen_values = true)]
    source: String,
    /// CONTAINER:PATH, a path on the host, or - for an archive on standard output
    #[arg(value_name = "DESTINATION", allow_hyphen_values = true)]
    destination: String,
}

/// `cp`.
pub fn run(args: &Cp, context: &Context) -> anyhow::Result<ExitCode> {
    let options = Options {
        archive: args.archive,
        follow_link: args.follow_link,
    };
    let store = &context.store;
    let (count, target) = match (in_container(&args.source), in_container(&args.destination)) {
        (Some(_), Some(_)) => bail!("copying between containers is not supported"),
        (None, None) => bail!("must specify at least one container source"),
        (Some((name, path)), None) => {
            let container = lifecycle::find(store, name)?;
            let note = Note::new("archive-path").with("path", path);
            store.note_container(&container.id, &[note])?;
            if args.destination == "-" {
                let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                copy::to_archive(store, &container, path, &mut out, options)?;
                return Ok(ExitCode::SUCCESS);
            }
            let target = Path::new(&args.destination);
            let count = copy::to_host(store, &container, path, target, options)?;
            let shown = std::path::absolute(target).context("finding the current directory")?;
            (count, shown.display().to_string())
        }
        (None, Some((name, path))) => {
            let container = lifecycle::find(store, name)?;
            let note = Note::new("extract-to-dir").with("path", path);
            store.note_container(&container.id, &[note])?;
            let count = if args.source == "-" {
                let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
                copy::from_archive(store, &container, &mut input, path, options)?;
                return Ok(ExitCode::SUCCESS);
            } else {
                let source = Path::new(&args.source);
                copy::to_container(store, &container, source, path, options)?
            };
            (count, args.destination.clone())
        }
    };
    if !args.quiet {
        eprintln!("Successfully copied {} to {target}", human::size(count));
    }
    Ok(ExitCode::SUCCESS)
}

/// Container and path, unless the argument is a path of the host.
fn in_container(argument: &str) -> Option<(&str, &str)> {
    if argument.starts_with('/') {
        return None;
    }
    let (name, path) = argument.split_once(':')?;
    (!name.starts_with('.') && !name.is_empty()).then_some((name, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_apart_as_in_docker() {
        assert_eq!(in_container("web:/a:b"), Some(("web", "/a:b")));
        assert_eq!(in_container("web:relative"), Some(("web", "relative")));
        for host in ["/a:b", "./a:b", "..:b", "plain", "-", ":x"] {
            assert_eq!(in_container(host), None, "{host}");
        }
    }
}
