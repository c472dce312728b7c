//! Supervisors that are made before their container is put together.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::LaunchError;
use crate::container::record::Config;
use crate::container::{control, standby};
use crate::store::Paths;

/// A supervisor that waits for its container.
///
/// Made before anything else, it and the machine's process get ready while the container is
/// still being put together. It ends when this is dropped.
#[derive(Debug)]
pub struct SpareSupervisor(pub(super) UnixStream);

impl SpareSupervisor {
    /// The one with a booted guest, if one waits and this container may begin in it; or a new one.
    pub fn obtain(paths: &Paths, config: &Config) -> Result<Self, LaunchError> {
        let standby = standby::may_suit(config).then(|| standby::take(paths));
        match standby.flatten() {
            Some(channel) => Ok(Self(channel)),
            None => Self::spawn(),
        }
    }

    /// Make one.
    pub fn spawn() -> Result<Self, LaunchError> {
        let (ours, theirs) = UnixStream::pair().map_err(LaunchError::Spawn)?;
        Command::new("/proc/self/exe")
            .arg0("hull")
            .arg(control::SUBCOMMAND)
            .current_dir("/")
            // It becomes the machine's process too, which must hold nobody's secrets.
            .env_clear()
            .envs(supervisor_environment())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(remember)
            .map_err(LaunchError::Spawn)?;
        Ok(Self(ours))
    }
}

/// The environment of supervisors: nobody's secrets.
pub fn supervisor_environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| is_for_supervisors(name))
}

/// Supervisors that this process started. A command line ends before them; one that serves an
/// API has to wait for those that end before it.
static STARTED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

fn remember(supervisor: Child) {
    reap();
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    started.push(supervisor);
}

/// Takes notice of supervisors that have ended.
pub fn reap() {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    started.retain_mut(|supervisor| matches!(supervisor.try_wait(), Ok(None)));
}

/// Whether a supervisor needs this environment variable.
fn is_for_supervisors(variable: &OsStr) -> bool {
    let bytes = variable.as_encoded_bytes();
    bytes == b"HOME"
        || bytes == b"PATH"
        || bytes.starts_with(b"HULL_")
        || bytes.starts_with(b"XDG_")
}
