//! `start`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::run::follow;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{session, terminal};
use crate::container::control::Attach;
use crate::container::launch::{self, LaunchError};
use crate::container::{detach, lifecycle};

/// Options of `start`.
#[derive(Debug, Args)]
pub struct Start {
    /// Attach standard output and standard error
    #[arg(short, long)]
    attach: bool,
    /// Attach standard input
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the container running
    #[arg(long, default_value = detach::DETACH_KEYS, value_name = "KEYS")]
    detach_keys: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// `start`.
pub fn run(args: &Start, context: &Context) -> anyhow::Result<ExitCode> {
    if !args.attach && !args.interactive {
        return super::for_each(&args.containers, |name| {
            let container = lifecycle::find(&context.store, name)?;
            match launch::start(&context.store, &container, Attach::default(), None) {
                Ok(started) => warn(&started.warnings),
                // As docker: starting what runs is no error.
                Err(LaunchError::AlreadyRunning(_)) => {}
                Err(error) => return Err(error.into()),
            }
            println!("{name}");
            Ok(())
        });
    }
    let [name] = args.containers.as_slice() else {
        bail!("you cannot start and attach multiple containers at once");
    };
    let container = lifecycle::find(&context.store, name)?;
    let options = session::Options {
        process: guest_agent::protocol::MAIN_PROCESS.to_owned(),
        stdin: args.interactive && container.config.open_stdin,
        tty: container.config.tty,
        proxy_signals: true,
        detach_keys: detach::parse_detach_keys(&args.detach_keys)?,
        stdout: true,
        stderr: true,
    };
    session::block_signals(&options)?;
    let attach = Attach {
        stdin: options.stdin,
        output: true,
        ..Attach::default()
    };
    let started = launch::start(&context.store, &container, attach, terminal::window_size())
        .map_err(|error| Failure::daemon(error.exit_code(), error))?;
    warn(&started.warnings);
    follow(context, container, started.stream, &options)
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("hull: warning: {warning}");
    }
}
