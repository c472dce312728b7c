//! A command line attached to a process: its terminal and standard streams, until the process
//! ends or the user detaches.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use anyhow::Context as _;
use guest_agent::protocol::{
    Exit, Frame, FrameError, FrameKind, Request, Resize, Signal as SendSignal, read_frame,
    write_frame,
};
use nix::sys::signal::{SigSet, Signal};

use super::terminal::{self, RawMode};
use crate::container::detach::DetachWatch;

/// Bytes of standard input in one frame.
const CHUNK: usize = 128 << 10;
/// Docker's: so many interrupts that a container ignores end the command line.
const PATIENCE: u32 = 3;

/// What the command line does for the process.
#[derive(Debug, Clone)]
pub struct Options {
    /// The process's name for signals and resizes.
    pub process: String,
    /// Carry standard input.
    pub stdin: bool,
    /// The process has a terminal: raw mode, resizes, detach keys.
    pub tty: bool,
    /// Pass signals on to the process.
    pub proxy_signals: bool,
    /// The keys that detach.
    pub detach_keys: Vec<u8>,
    /// Print what the process writes to its standard output.
    pub stdout: bool,
    /// Print what the process writes to its standard error.
    pub stderr: bool,
}

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// The process did.
    Exit(Exit),
    /// The user typed the detach keys.
    Detached,
    /// The other side vanished.
    Lost,
}

/// Signals that are passed on, as docker does for those that mean something to a process.
const PROXIED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
];

/// Keeps the signals of a later [`run`] from ending the command line meanwhile; call it before
/// the process is started, on the only thread.
pub fn block_signals(options: &Options) -> io::Result<()> {
    Ok(signals(options).thread_block()?)
}

fn signals(options: &Options) -> SigSet {
    let mut set = SigSet::empty();
    if options.tty {
        set.add(Signal::SIGWINCH);
    }
    if options.proxy_signals && !options.tty {
        PROXIED.into_iter().for_each(|signal| set.add(signal));
    }
    set
}

/// Carries streams until the end; `tell` reaches the agent for signals and resizes.
pub fn run(
    stream: UnixStream,
    options: &Options,
    tell: impl Fn(Request) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<Ended> {
    let raw = if options.tty && options.stdin {
        RawMode::enter()?
    } else {
        None
    };
    let detached = Arc::new(AtomicBool::new(false));
    watch_signals(options, tell);
    if options.stdin {
        let writer = stream.try_clone().context("sharing the connection")?;
        let keys = if options.tty {
            options.detach_keys.clone()
        } else {
            Vec::new()
        };
        let detached = detached.clone();
        thread::spawn(move || send_stdin(writer, DetachWatch::new(keys), &detached));
    }
    let ended = receive(stream, options);
    drop(raw);
    if detached.load(Ordering::Acquire) {
        return Ok(Ended::Detached);
    }
    ended
}

fn watch_signals(options: &Options, tell: impl Fn(Request) -> anyhow::Result<()> + Send + 'static) {
    let set = signals(options);
    let process = options.process.clone();
    let interrupts = AtomicU32::new(0);
    if set.iter().next().is_none() {
        return;
    }
    thread::spawn(move || {
        // The set is not empty, so waiting fails only if the system is broken.
        while let Ok(signal) = set.wait() {
            let process = process.clone();
            if signal == Signal::SIGWINCH {
                let size = terminal::window_size().unwrap_or_default();
                // A process that has just ended needs no resize.
                let _ = tell(Request::Resize(Resize { process, size }));
                continue;
            }
            let asked_to_end = matches!(signal, Signal::SIGINT | Signal::SIGTERM);
            if asked_to_end && interrupts.fetch_add(1, Ordering::Relaxed) + 1 >= PATIENCE {
                eprintln!("hull: got {PATIENCE} interrupts, leaving the container to itself");
                std::process::exit(128 + signal as i32);
            }
            let _ = tell(Request::Signal(SendSignal {
                process,
                signal: signal as i32,
            }));
        }
    });
}

fn send_stdin(mut writer: UnixStream, mut watch: DetachWatch, detached: &AtomicBool) {
    let mut buffer = vec![0; CHUNK];
    let mut stdin = io::stdin().lock();
    loop {
        let sent = match stdin.read(&mut buffer) {
            Ok(0) => {
                let _ = write_frame(&mut writer, FrameKind::StdinClose, &[]);
                return;
            }
            Ok(count) if watch.is_idle() => {
                write_frame(&mut writer, FrameKind::Stdin, &buffer[..count])
            }
            Ok(count) => {
                let (typed, complete) = watch.filter(&buffer[..count]);
                let sent = write_frame(&mut writer, FrameKind::Stdin, &typed);
                if complete {
                    detached.store(true, Ordering::Release);
                    // Wakes the thread that reads output.
                    let _ = writer.shutdown(Shutdown::Both);
                    return;
                }
                sent
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => {
                let _ = write_frame(&mut writer, FrameKind::StdinClose, &[]);
                return;
            }
        };
        // The process has ended or stopped reading for good.
        if sent.is_err() {
            return;
        }
    }
}

fn receive(stream: UnixStream, options: &Options) -> anyhow::Result<Ended> {
    let mut reader = io::BufReader::with_capacity(CHUNK, stream);
    // Past the standard library's line buffers, which would split every chunk.
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    loop {
        let frame = match read_frame(&mut reader) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(Ended::Lost),
            Err(FrameError::Io(error)) if is_hang_up(&error) => return Ok(Ended::Lost),
            Err(error) => return Err(error).context("receiving the process's output"),
        };
        let Frame { kind, payload } = frame;
        let written = match kind {
            FrameKind::Stdout if options.stdout => stdout.write_all(&payload),
            FrameKind::Stderr if options.stderr => stderr.write_all(&payload),
            FrameKind::Exit => {
                let exit = serde_json::from_slice(&payload).context("reading the exit status")?;
                return Ok(Ended::Exit(exit));
            }
            _ => Ok(()),
        };
        match written {
            // As a program that is killed by SIGPIPE.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(141),
            written => written.context("writing the process's output")?,
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
