//! `exec`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use guest_agent::protocol::{Request, Stdio};

use super::flags::from_host;
use super::run::exit_code;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{session, terminal};
use crate::container::spec::{ProcessOptions, process_spec};
use crate::container::{client, detach, guest, id, lifecycle};
use crate::events::Note;

/// Options of `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the process a terminal
    #[arg(short, long)]
    tty: bool,
    /// Leave the process running in the background
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the process running
    #[arg(long, default_value = detach::DETACH_KEYS, value_name = "KEYS")]
    detach_keys: String,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User: name or number, with an optional group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Give the process all capabilities
    #[arg(long)]
    privileged: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Command and arguments
    #[arg(
        required = true,
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

/// `exec`.
pub fn run(args: &Exec, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    lifecycle::must_be_active(&container)?;
    let config = &container.config;
    let options = ProcessOptions {
        argv: args.command.clone(),
        env: environment(args)?,
        working_dir: args.workdir.clone(),
        tty: args.tty,
        privileged: args.privileged || config.privileged,
    };
    let process = id::random_bytes::<8>()?
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect::<String>();
    let stdin = args.interactive && !args.detach;
    let session = session::Options {
        process: process.clone(),
        stdin,
        tty: args.tty,
        proxy_signals: false,
        detach_keys: detach::parse_detach_keys(&args.detach_keys)?,
        stdout: true,
        stderr: true,
    };
    let exec = guest_agent::protocol::Exec {
        id: process,
        process: process_spec(config, &options)?,
        user: args.user.clone().unwrap_or_else(|| config.user.clone()),
        groups: config.groups.clone(),
        stdio: Stdio {
            stdin,
            terminal: args
                .tty
                .then(|| terminal::window_size().unwrap_or_default()),
        },
    };
    let mut stream = client::agent(&context.store, &container)?;
    session::block_signals(&session)?;
    let warnings = guest::ask(&mut stream, Request::Exec(Box::new(exec)))
        .map_err(|error| Failure::daemon(error.exit_code(), error))?;
    for warning in warnings {
        eprintln!("hull: warning: {warning}");
    }
    let line = args.command.join(" ");
    let begun = ["create", "start"]
        .map(|step| Note::new(format!("exec_{step}: {line}")).with("execID", &session.process));
    context.store.note_container(&container.id, &begun)?;
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let (paths, target) = (context.store.paths().clone(), container.clone());
    let ended = session::run(stream, &session, move |request| {
        let store = crate::store::Store::open(&paths)?;
        client::ask_agent(&store, &target, request)?;
        Ok(())
    })?;
    match ended {
        session::Ended::Exit(exit) => {
            let died = Note::new("exec_die").with("execID", &session.process);
            let died = died.with("exitCode", exit.code);
            context.store.note_container(&container.id, &[died])?;
            Ok(exit_code(exit.code))
        }
        session::Ended::Detached => Ok(ExitCode::SUCCESS),
        // The container ended and took the process with it.
        session::Ended::Lost => Ok(exit_code(137)),
    }
}

fn environment(args: &Exec) -> anyhow::Result<Vec<String>> {
    let mut variables = Vec::new();
    for path in &args.env_file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading the environment file {}", path.display()))?;
        let lines = text.lines().map(str::trim_start);
        variables.extend(
            lines
                .filter(|l| !l.is_empty() && !l.starts_with('#'))
                .map(str::to_owned),
        );
    }
    variables.extend(args.env.iter().cloned());
    Ok(variables.into_iter().filter_map(from_host).collect())
}
