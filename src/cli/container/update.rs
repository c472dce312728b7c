//! `update`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::for_each;
use super::limits::ProcessorFlags;
use crate::cli::context::Context;
use crate::container::lifecycle;
use crate::container::update::{self, Update as Changes};
use crate::units;

/// Options of `update`.
#[derive(Debug, Args)]
pub struct Update {
    /// Memory of the guest, as in 512m or 2g; from its next start on
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    #[command(flatten)]
    processors: ProcessorFlags,
    /// Most processes at once; -1 for any number
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// When to start it again: no, on-failure[:MAX], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    #[command(flatten)]
    ignored: super::limits::IgnoredUpdates,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// `update`.
pub fn run(args: &Update, context: &Context) -> anyhow::Result<ExitCode> {
    let memory = args.memory.as_deref().map(units::parse_bytes).transpose()?;
    let restart = args.restart.as_deref().map(str::parse).transpose()?;
    let changes = Changes {
        memory,
        processors: args.processors.asked()?,
        cpuset: args.processors.cpuset()?,
        pids_limit: args.pids_limit,
        restart,
    };
    let ignored = args.ignored.sentences();
    for sentence in &ignored {
        eprintln!("hull: {sentence}");
    }
    if changes == Changes::default() && ignored.is_empty() {
        bail!(
            "you must provide one or more options: --memory, --cpus, --cpu-shares, \
             --cpuset-cpus, --pids-limit, --restart and their like"
        );
    }
    for_each(&args.containers, |name| {
        let container = lifecycle::find(&context.store, name)?;
        for sentence in update::update(&context.store, &container, &changes)? {
            eprintln!("hull: {sentence}");
        }
        println!("{name}");
        Ok(())
    })
}
