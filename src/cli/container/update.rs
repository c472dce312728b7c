//! `update`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::for_each;
use crate::cli::context::Context;
use crate::container::lifecycle;
use crate::container::options::whole_cpus;
use crate::container::update::{self, Update as Changes};
use crate::units;

/// Options of `update`.
#[derive(Debug, Args)]
pub struct Update {
    /// Memory of the guest, as in 512m or 2g; from its next start on
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Processors of the guest; from its next start on
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Most processes at once; -1 for any number
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// When to start it again: no, on-failure[:MAX], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
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
        cpus: args.cpus.map(whole_cpus).transpose()?,
        pids_limit: args.pids_limit,
        restart,
    };
    if changes == Changes::default() {
        bail!("you must provide one or more options: --memory, --cpus, --pids-limit, --restart");
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
