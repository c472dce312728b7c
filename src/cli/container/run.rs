//! `run` and `create`.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::boot_report::BootReport;
use super::flags::{Flags, Stream};
use super::kernel_log::KernelLog;
use crate::arch::platform::Platform;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::image::pull::obtain;
use crate::cli::image::stack;
use crate::cli::{session, terminal};
use crate::container::control::Attach;
use crate::container::create::{self, FromImage};
use crate::container::launch::{self, SpareSupervisor};
use crate::container::record::Container;
use crate::container::{client, detach, isolation, lifecycle, standby};
use crate::image::{Image, PullPolicy};
use crate::store::Paths;

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Leave the container running in the background and print its id
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the container running
    #[arg(long, default_value = detach::DETACH_KEYS, value_name = "KEYS")]
    detach_keys: String,
    /// Pass signals on to the container
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Print what starting the guest took: time, exits, registers, processor time
    #[arg(long)]
    trace_boot: bool,
    /// Show on standard error everything that the guest's kernel says
    #[arg(long)]
    console: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Options of `create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// `create`.
pub fn create(args: &Create, context: &Context) -> anyhow::Result<ExitCode> {
    let container = make(&args.flags, args.cidfile.as_ref(), context)
        .map_err(|error| Failure::daemon(125, error))?;
    println!("{}", container.id);
    Ok(ExitCode::SUCCESS)
}

/// `run`.
pub fn run(args: &Run) -> anyhow::Result<ExitCode> {
    // It gets ready while the rest is done; one with a booted guest is ready.
    let supervisor = match standby::is_there(&Paths::from_env()?) {
        true => None,
        false => Some(
            SpareSupervisor::spawn().map_err(|error| Failure::daemon(error.exit_code(), error))?,
        ),
    };
    let context = &Context::open()?;
    let flags = &args.flags;
    if flags.tty && flags.interactive && !args.detach && !std::io::stdin().is_terminal() {
        return Err(Failure::new(1, "the input device is not a TTY").into());
    }
    if args.detach && !flags.attach.is_empty() {
        let message = "conflicting options: cannot specify both --attach and --detach";
        return Err(Failure::new(125, message).into());
    }
    if args.detach && args.console {
        let message = "conflicting options: cannot specify both --console and --detach";
        return Err(Failure::new(125, message).into());
    }
    // Without a word all of them, as far as the container has them.
    let attached = |stream| flags.attach.is_empty() || flags.attach.contains(&stream);
    let keys = detach::parse_detach_keys(&args.detach_keys)?;
    let container =
        make(flags, args.cidfile.as_ref(), context).map_err(|error| Failure::daemon(125, error))?;
    let options = session::Options {
        process: guest_agent::protocol::MAIN_PROCESS.to_owned(),
        stdin: flags.interactive && !args.detach && attached(Stream::Stdin),
        tty: flags.tty,
        proxy_signals: args.sig_proxy,
        detach_keys: keys,
        stdout: attached(Stream::Stdout),
        stderr: attached(Stream::Stderr),
    };
    if !args.detach {
        session::block_signals(&options)?;
    }
    let attach = Attach {
        stdin: options.stdin,
        output: !args.detach,
        trace_boot: args.trace_boot,
        console: args.console,
    };
    let store = &context.store;
    // What is said is shown until this is dropped.
    let _console = match args.console {
        true => Some(KernelLog::follow(
            &store.paths().console_log(&container.id),
        )?),
        false => None,
    };
    let started = launch::start_in(
        supervisor,
        store,
        &container,
        attach,
        terminal::window_size(),
    );
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            if flags.rm {
                // Its supervisor has removed it unless it never got that far.
                let _ = lifecycle::remove(&context.store, &container, true, true);
            }
            return Err(Failure::daemon(error.exit_code(), error).into());
        }
    };
    for warning in &started.warnings {
        eprintln!("hull: warning: {warning}");
    }
    if let Some(trace) = &started.boot {
        eprint!("{}", BootReport(trace));
    }
    if args.detach {
        println!("{}", container.id);
        return Ok(ExitCode::SUCCESS);
    }
    follow(context, container, started.stream, &options)
}

/// Follows the first process of a container and turns its end into an exit code.
pub fn follow(
    context: &Context,
    container: Container,
    stream: std::os::unix::net::UnixStream,
    options: &session::Options,
) -> anyhow::Result<ExitCode> {
    let (paths, target) = (context.store.paths().clone(), container.clone());
    let ended = session::run(stream, options, move |request| {
        let store = crate::store::Store::open(&paths)?;
        client::ask_agent(&store, &target, request)?;
        Ok(())
    })?;
    match ended {
        session::Ended::Exit(exit) => {
            if exit.code == 255 {
                explain_lost_guest(context, &container);
            }
            Ok(exit_code(exit.code))
        }
        session::Ended::Detached => Ok(ExitCode::SUCCESS),
        session::Ended::Lost => {
            let name = &container.name;
            let message = format!("the supervisor of container {name} was killed");
            Err(Failure::new(255, message).into())
        }
    }
}

fn explain_lost_guest(context: &Context, container: &Container) {
    if let Ok(now) = lifecycle::find(&context.store, &container.id)
        && !now.state.error.is_empty()
    {
        eprintln!("hull: container {}: {}", now.name, now.state.error);
    }
}

/// The exit code of a process whose status is `code`.
pub fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(255))
}

fn make(flags: &Flags, cidfile: Option<&PathBuf>, context: &Context) -> anyhow::Result<Container> {
    let mut asked = flags.config(context)?;
    let image = image(flags, context)?;
    let needed = isolation::of_image(&context.settings, &flags.image, &image.names);
    asked.isolation = asked.isolation.strictest(needed);
    let id = image.id.to_string();
    let from = FromImage {
        reference: &flags.image,
        id: &id,
        platform: image.platform.to_string(),
        config: &image.config,
        raw: &image.raw_config,
    };
    let config = create::configure(asked, flags.entrypoint(), &from)?;
    let cidfile = cidfile
        .map(|path| {
            File::create_new(path)
                .with_context(|| format!("making the container id file {}", path.display()))
        })
        .transpose()?;
    let container = create::create(&context.store, config, flags.name.as_deref())?;
    if let Some(mut file) = cidfile {
        file.write_all(container.id.as_bytes())
            .context("writing the container id file")?;
    }
    Ok(container)
}

/// The image, pulled when need be.
fn image(flags: &Flags, context: &Context) -> anyhow::Result<Image> {
    let platform = flags
        .platform
        .as_deref()
        .map(str::parse::<Platform>)
        .transpose()?;
    let settings = context.settings.defaults.pull.as_deref();
    let policy = match flags.pull.as_deref().or(settings) {
        Some(text) => text.parse::<PullPolicy>().map_err(anyhow::Error::msg)?,
        None => PullPolicy::Missing,
    };
    let image = obtain(
        context,
        &flags.image,
        platform.as_ref(),
        policy,
        flags.quiet,
    )?;
    if flags.with.is_empty() {
        return Ok(image);
    }
    let base = (flags.image.as_str(), image);
    stack::with(context, base, &flags.with, policy, flags.quiet)
}
