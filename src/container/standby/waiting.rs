//! Finding a guest that waits, and making one.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::SUBCOMMAND;
use super::surroundings::name;
use crate::container::launch::supervisor_environment;
use crate::settings::{Settings, SettingsError};
use crate::store::{Paths, StoreError};

/// How long a keeper, which is ready and has nothing else to do, may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most guests that wait beside one more.
const MOST: usize = 3;

/// Bytes that a log is begun anew after.
const LOG_SIZE: u64 = 64 << 10;

/// Whether a guest waits, or seems to.
pub fn is_there(paths: &Paths) -> bool {
    paths.standby_dir().join(name()).exists()
}

/// Takes the guest that waits, if there is one: a channel to what becomes a supervisor.
pub fn take(paths: &Paths) -> Option<UnixStream> {
    let socket = paths.standby_socket(&name()).ok()?;
    // Nobody listens where one was killed.
    let mut stream = UnixStream::connect(socket.path()).ok()?;
    // It says that it is this container's, or goes to another one and hangs up.
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.read_exact(&mut [0]).ok()?;
    stream.set_read_timeout(None).ok()?;
    Some(stream)
}

/// Makes a guest that waits, unless there is one. Returns while it boots.
pub fn renew(paths: &Paths) -> Result<(), RenewError> {
    if Settings::load()?.defaults.standby_seconds() == 0 {
        return Ok(());
    }
    let name = name();
    if others(paths, &name) >= MOST {
        return Ok(());
    }
    let lock = paths.standby_lock(&name)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let mut child = Command::new("/proc/self/exe")
        .arg0("hull")
        .args([SUBCOMMAND, name.as_str()])
        .current_dir("/")
        .env_clear()
        .envs(supervisor_environment())
        .stdin(Stdio::from(OwnedFd::from(lock)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log(paths)?))
        .spawn()?;
    // It leaves its starter at once.
    let status = child.wait()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(status.to_string()).into()),
    }
}

/// How many guests wait for commands in other surroundings.
fn others(paths: &Paths, name: &str) -> usize {
    let entries = fs::read_dir(paths.standby_dir()).into_iter().flatten();
    let locks = entries.flatten().map(|entry| entry.path());
    let locks = locks.filter(|path| path.extension().is_some_and(|kind| kind == "lock"));
    let locks = locks.filter(|path| path.file_stem().is_some_and(|stem| stem != name));
    let held = |path: &PathBuf| {
        // One that was killed has left a lock that nobody holds.
        let lock = File::open(path).map(|lock| lock.try_lock());
        matches!(lock, Ok(Err(TryLockError::WouldBlock)))
    };
    locks.filter(held).count()
}

/// A file for what the last ones said: why they ended before their time.
fn log(paths: &Paths) -> io::Result<File> {
    let path = paths.standby_dir().join("log");
    let log = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    if log.metadata()?.len() > LOG_SIZE {
        log.set_len(0)?;
    }
    Ok(log)
}

/// Why there is no guest that waits.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// It could not be made.
    #[error("cannot make a guest that waits for the next container: {0}")]
    Io(#[from] io::Error),
    /// The user's settings cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Its directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}
