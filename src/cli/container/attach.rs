//! `attach`.

use std::process::ExitCode;

use clap::Args;
use guest_agent::protocol::{MAIN_PROCESS, Request, Resize};

use super::run::follow;
use crate::cli::context::Context;
use crate::cli::{session, terminal};
use crate::container::{client, control, detach, lifecycle};
use crate::events::Note;

/// Options of `attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// Do not attach standard input
    #[arg(long)]
    no_stdin: bool,
    /// Keys that leave the container running
    #[arg(long, default_value = detach::DETACH_KEYS, value_name = "KEYS")]
    detach_keys: String,
    /// Pass signals on to the container
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// `attach`.
pub fn run(args: &Attach, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    let options = session::Options {
        process: MAIN_PROCESS.to_owned(),
        stdin: container.config.open_stdin && !args.no_stdin,
        tty: container.config.tty,
        proxy_signals: args.sig_proxy,
        detach_keys: detach::parse_detach_keys(&args.detach_keys)?,
        stdout: true,
        stderr: true,
    };
    session::block_signals(&options)?;
    let attach = control::Attach {
        stdin: options.stdin,
        output: true,
        ..control::Attach::default()
    };
    let stream = client::attach(&context.store, &container, attach)?;
    context
        .store
        .note_container(&container.id, &[Note::new("attach")])?;
    if let Some(size) = terminal::window_size().filter(|_| options.tty) {
        let resize = Resize {
            process: MAIN_PROCESS.to_owned(),
            size,
        };
        // A container that has just ended needs no size; its end comes over the stream.
        let _ = client::ask_agent(&context.store, &container, Request::Resize(resize));
    }
    follow(context, container, stream, &options)
}
