//! The process that keeps a guest until a container comes for it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use vmm::Spare;

use super::guest::Standby;
use crate::container::supervisor;
use crate::settings::Settings;
use crate::store::{Paths, Store};

/// Keeps one to its end; the socket to listen on is standard input.
pub fn main() -> ExitCode {
    match keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hull standby: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn keep() -> anyhow::Result<()> {
    let name = std::env::args().nth(2).context("it has no name")?;
    // Its starter does not wait for it.
    nix::unistd::daemon(true, true).context("leaving the starter")?;
    let listener = take_over_stdin().context("taking over the socket")?;
    let paths = Paths::from_env()?;
    let socket = paths.standby_dir().join(name);
    let kept = wait(listener, &paths, &socket);
    // Whoever comes now must not find it, whatever it ended for; what is forgotten is gone, or
    // another one's.
    if !matches!(kept, Ok(Waited::Forgotten)) {
        let _ = std::fs::remove_file(&socket);
    }
    match kept? {
        Waited::For(client, standby, _watch) => {
            (&client).write_all(&[0]).context("greeting the starter")?;
            supervisor::supervise_in(client, standby)
        }
        Waited::Forgotten | Waited::InVain => Ok(()),
    }
}

/// What came of waiting.
enum Waited {
    /// Somebody came. The watch is kept: closing it takes 10 ms.
    For(UnixStream, Box<Standby>, Inotify),
    /// The socket was removed, perhaps to make room for another.
    Forgotten,
    /// Nobody came, or there is nothing to keep.
    InVain,
}

fn wait(listener: UnixListener, paths: &Paths, socket: &Path) -> anyhow::Result<Waited> {
    let seconds = Settings::load()?.defaults.standby_seconds();
    if seconds == 0 {
        return Ok(Waited::InVain);
    }
    // Before anything makes a thread or has to do with the user's data.
    let spare = Spare::spawn()?;
    let watch = Inotify::init(InitFlags::IN_CLOEXEC).context("watching the socket")?;
    let removed = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_DELETE_SELF;
    watch
        .add_watch(&paths.standby_dir(), removed)
        .context("watching the socket")?;
    let store = Store::open(paths)?;
    let Some(standby) = Standby::boot(spare, store)? else {
        return Ok(Waited::InVain);
    };
    supervisor::name("standby");
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut fds = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(standby.machine().control_fd(), PollFlags::POLLIN),
        ];
        match poll(
            &mut fds,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(0) => return Ok(Waited::InVain),
            Err(Errno::EINTR) => continue,
            other => other.context("waiting for a container")?,
        };
        let [client, removed, machine] = fds.map(|fd| fd.any().unwrap_or(false));
        if machine {
            // It has nothing to say but that it ended.
            return Ok(Waited::InVain);
        }
        if removed {
            // It may be another one's socket.
            watch.read_events().context("watching the socket")?;
            if !socket.exists() {
                return Ok(Waited::Forgotten);
            }
        }
        if client {
            let (client, _) = listener.accept().context("hearing of a container")?;
            return Ok(Waited::For(client, Box::new(standby), watch));
        }
    }
}

/// Moves the socket out of descriptor 0, which becomes `/dev/null`.
fn take_over_stdin() -> io::Result<UnixListener> {
    let listener = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(UnixListener::from(listener))
}
