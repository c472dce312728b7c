//! `logs`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::cli::context::Context;
use crate::container::control::ControlRequest;
use crate::container::log_view::{self, View, Wanted};
use crate::container::logs::Stream;
use crate::container::record::now_ns;
use crate::container::{client, lifecycle};
use crate::time::parse_time;

/// Options of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Wait for more until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Show times
    #[arg(short, long)]
    timestamps: bool,
    /// Show details of the log driver: hull's has none
    #[arg(long)]
    details: bool,
    /// Show this many lines from the end, or all
    #[arg(short = 'n', long, default_value = "all", value_name = "LINES")]
    tail: String,
    /// Show what came after this time: 2026-01-02T15:04:05Z, seconds since 1970, or 10m ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show what came before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// `logs`.
pub fn run(args: &Logs, context: &Context) -> anyhow::Result<ExitCode> {
    let container = lifecycle::find(&context.store, &args.container)?;
    let path = context.store.paths().container_log(&container.id);
    let wanted = Wanted {
        tail: log_view::parse_tail(&args.tail)?,
        since: args.since.as_deref().map(parse_time).transpose()?,
        until: args.until.as_deref().map(parse_time).transpose()?,
        timestamps: args.timestamps,
        details: args.details,
    };
    let until = wanted.until;
    // Watched before the first read, so that nothing falls between.
    let alive = if args.follow {
        client::ask(&context.store, &container, &ControlRequest::Wait).ok()
    } else {
        None
    };
    let follow = alive.map(|alive| Follow::new(&path, alive)).transpose()?;
    let mut view =
        View::new(&path, wanted).with_context(|| format!("opening the log {}", path.display()))?;
    let mut printer = Printer {
        stdout: File::from(io::stdout().as_fd().try_clone_to_owned()?),
        stderr: File::from(io::stderr().as_fd().try_clone_to_owned()?),
    };
    printer.print(&mut view)?;
    if let Some(follow) = follow {
        loop {
            let ended = follow.wait(until)?;
            printer.print(&mut view)?;
            if ended {
                break;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Printer {
    stdout: File,
    stderr: File,
}

impl Printer {
    /// Prints what is there.
    fn print(&mut self, view: &mut View) -> anyhow::Result<()> {
        while let Some((stream, bytes)) = view.next_piece().context("reading the log")? {
            match stream {
                Stream::Stdout => self.stdout.write_all(&bytes)?,
                Stream::Stderr => self.stderr.write_all(&bytes)?,
            }
        }
        Ok(())
    }
}

/// Wakes up when the log grows or the container ends.
struct Follow {
    changes: Inotify,
    alive: UnixStream,
}

impl Follow {
    fn new(path: &Path, alive: UnixStream) -> anyhow::Result<Self> {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC).context("watching the log")?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
        changes
            .add_watch(folder, flags)
            .context("watching the log")?;
        Ok(Self { changes, alive })
    }

    /// Whether nothing comes any more: the container has ended or the time is up.
    fn wait(&self, until: Option<i64>) -> anyhow::Result<bool> {
        let left = until.map(|until| until.saturating_sub(now_ns()));
        let timeout = match left {
            None => PollTimeout::NONE,
            Some(..=0) => return Ok(true),
            // Rounded up; a longer wait than there can be is taken up again.
            Some(left) => PollTimeout::try_from(left / 1_000_000 + 1).unwrap_or(PollTimeout::MAX),
        };
        let mut events = [
            PollFd::new(self.changes.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.alive.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut events, timeout).context("waiting for the log")?;
        let [changed, ended] = events.map(|event| event.any().unwrap_or(false));
        if changed {
            self.changes.read_events().context("watching the log")?;
        }
        Ok(ended)
    }
}
