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
use crate::container::logs::{self, Reader, Record, Stream};
use crate::container::record::now_ns;
use crate::container::{client, lifecycle};
use crate::time::{parse_time, rfc3339};

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
    let path = context
        .store
        .paths()
        .container_dir(&container.id)
        .join("log");
    let mut printer = Printer {
        timestamps: args.timestamps,
        details: args.details,
        since: args.since.as_deref().map(parse_time).transpose()?,
        until: args.until.as_deref().map(parse_time).transpose()?,
        stdout: File::from(io::stdout().as_fd().try_clone_to_owned()?),
        stderr: File::from(io::stderr().as_fd().try_clone_to_owned()?),
        line_start: [true; 2],
    };
    // Watched before the first read, so that nothing falls between.
    let alive = if args.follow {
        client::ask(&context.store, &container, &ControlRequest::Wait).ok()
    } else {
        None
    };
    let follow = alive.map(|alive| Follow::new(&path, alive)).transpose()?;
    let mut reader = print_all(&path, args, &mut printer)?;
    if let Some(follow) = follow {
        loop {
            let ended = follow.wait(printer.until)?;
            reader = print_new(&path, reader, &mut printer)?;
            if ended {
                break;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what is there and returns the reader at its end.
fn print_all(path: &Path, args: &Logs, printer: &mut Printer) -> anyhow::Result<Option<Reader>> {
    let tail =
        match args.tail.as_str() {
            "all" => None,
            // As docker: a negative number shows everything.
            text => usize::try_from(text.parse::<i64>().with_context(|| {
                format!("invalid number of lines {text:?}, use a number or all")
            })?)
            .ok(),
        };
    let mut skip = match tail {
        None => 0,
        Some(lines) => count_lines(path)?.saturating_sub(lines),
    };
    let mut last = None;
    for part in [logs::set_aside(path), path.to_owned()] {
        let Some(mut reader) = open(&part)? else {
            continue;
        };
        while let Some(record) = reader.next_record()? {
            let rest = skip_lines(&record.bytes, &mut skip).to_vec();
            if !rest.is_empty() {
                printer.print(&Record {
                    bytes: rest,
                    ..record
                })?;
            }
        }
        last = Some(reader);
    }
    Ok(last)
}

fn print_new(
    path: &Path,
    reader: Option<Reader>,
    printer: &mut Printer,
) -> anyhow::Result<Option<Reader>> {
    let Some(mut reader) = reader.map_or_else(|| open(path), |reader| Ok(Some(reader)))? else {
        return Ok(None);
    };
    while let Some(record) = reader.next_record()? {
        printer.print(&record)?;
    }
    // A new file began: the old one is read to its end.
    if reader.is_set_aside(path)? {
        return print_new(path, None, printer);
    }
    Ok(Some(reader))
}

fn open(path: &Path) -> anyhow::Result<Option<Reader>> {
    match Reader::open(path) {
        Ok(reader) => Ok(Some(reader)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("opening the log {}", path.display())),
    }
}

fn count_lines(path: &Path) -> anyhow::Result<usize> {
    let (mut lines, mut open_line) = (0, false);
    for part in [logs::set_aside(path), path.to_owned()] {
        let Some(mut reader) = open(&part)? else {
            continue;
        };
        while let Some(record) = reader.next_record()? {
            lines += record.bytes.iter().filter(|&&b| b == b'\n').count();
            open_line = record.bytes.last().map_or(open_line, |&b| b != b'\n');
        }
    }
    Ok(lines + usize::from(open_line))
}

/// What is left of `bytes` after `skip` lines, which counts down.
fn skip_lines<'a>(bytes: &'a [u8], skip: &mut usize) -> &'a [u8] {
    let mut rest = bytes;
    while *skip > 0 {
        match rest.iter().position(|&b| b == b'\n') {
            Some(end) => {
                rest = &rest[end + 1..];
                *skip -= 1;
            }
            None => return &[],
        }
    }
    rest
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

struct Printer {
    timestamps: bool,
    details: bool,
    since: Option<i64>,
    until: Option<i64>,
    stdout: File,
    stderr: File,
    line_start: [bool; 2],
}

impl Printer {
    fn print(&mut self, record: &Record) -> io::Result<()> {
        let early = self.since.is_some_and(|since| record.time < since);
        if early || self.until.is_some_and(|until| record.time > until) {
            return Ok(());
        }
        let (out, place) = match record.stream {
            Stream::Stdout => (&mut self.stdout, 0),
            Stream::Stderr => (&mut self.stderr, 1),
        };
        if !self.timestamps && !self.details {
            return out.write_all(&record.bytes);
        }
        let stamp = rfc3339(record.time);
        let mut text = Vec::with_capacity(record.bytes.len() + stamp.len() + 1);
        for line in record.bytes.split_inclusive(|&b| b == b'\n') {
            if self.line_start[place] {
                if self.timestamps {
                    text.extend(stamp.as_bytes());
                    text.push(b' ');
                }
                // As docker, where the details are empty.
                if self.details {
                    text.push(b' ');
                }
            }
            text.extend(line);
            self.line_start[place] = line.ends_with(b"\n");
        }
        out.write_all(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_skipped_across_chunks() {
        let mut skip = 2;
        assert_eq!(skip_lines(b"a\nb", &mut skip), b"");
        assert_eq!(skip, 1);
        assert_eq!(skip_lines(b"c\nd\n", &mut skip), b"d\n");
        assert_eq!(skip_lines(b"e", &mut skip), b"e");
    }
}
