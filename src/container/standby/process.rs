//! The process that keeps a guest until a container comes for it.

use std::fs::{self, File};
use std::io::Write;
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
use crate::container::descriptors::take_over_stdin;
use crate::container::supervisor;
use crate::settings::Settings;
use crate::store::{Paths, Store};

/// Keeps one to its end. Its name is the second argument; standard input is a locked file that says
/// that there is one of this name.
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
    let lock = File::from(take_over_stdin().context("taking over the lock")?);
    let paths = Paths::from_env()?;
    let waited = wait(&paths, &name);
    // From now on there may be another one.
    paths.remove_standby_lock(&name);
    drop(lock);
    match waited? {
        // The watch is kept: closing it takes 10 ms.
        Some((client, standby, _watch)) => supervisor::supervise_in(client, standby),
        None => Ok(()),
    }
}

/// Who came for the guest, if anybody did.
type Waited = Option<(UnixStream, Box<Standby>, Inotify)>;

fn wait(paths: &Paths, name: &str) -> anyhow::Result<Waited> {
    let seconds = Settings::load()?.defaults.standby_seconds();
    // Before anything makes a thread or has to do with the user's data.
    let spare = Spare::spawn()?;
    let Some(standby) = Standby::boot(spare, Store::open(paths)?)? else {
        return Ok(None);
    };
    let place = paths.standby_socket(name)?;
    // What one that was killed left; the lock says that nobody uses it.
    let _ = fs::remove_file(place.path());
    let watch = Inotify::init(InitFlags::IN_CLOEXEC).context("watching the socket")?;
    let removed = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_DELETE_SELF;
    watch
        .add_watch(&paths.standby_dir(), removed)
        .context("watching the socket")?;
    let listener = UnixListener::bind(place.path()).context("making the socket")?;
    supervisor::name("standby");
    let end = Instant::now() + Duration::from_secs(seconds);
    let socket = paths.standby_dir().join(name);
    let client = hear(&listener, &watch, &standby, &socket, end);
    // Whoever comes now must not find it; one that was removed is perhaps another's by now.
    if socket.exists() {
        let _ = fs::remove_file(&socket);
    }
    Ok(client?.map(|client| (client, Box::new(standby), watch)))
}

/// Waits for the first client that is still there.
fn hear(
    listener: &UnixListener,
    watch: &Inotify,
    standby: &Standby,
    socket: &Path,
    end: Instant,
) -> anyhow::Result<Option<UnixStream>> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut fds = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(standby.machine().control_fd(), PollFlags::POLLIN),
        ];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(0) => return Ok(None),
            Err(Errno::EINTR) => continue,
            other => other.context("waiting for a container")?,
        };
        let [client, removed, machine] = fds.map(|fd| fd.any().unwrap_or(false));
        if machine {
            // It has nothing to say but that it ended.
            return Ok(None);
        }
        if removed {
            // It may be another one's socket.
            watch.read_events().context("watching the socket")?;
            if !socket.exists() {
                return Ok(None);
            }
        }
        if client {
            let (client, _) = listener.accept().context("hearing of a container")?;
            if !standby.answers() {
                anyhow::bail!("the guest does not answer any more");
            }
            // One that has hung up meanwhile is no reason to end.
            if (&client).write_all(&[0]).is_ok() {
                return Ok(Some(client));
            }
        }
    }
}
