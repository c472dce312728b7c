//! What keeps a machine's processes away from the host.
//!
//! In order: a user of its own, new namespaces of every kind, a root directory with nothing
//! in it but what the machine needs, no capabilities, no way to regain any, resource limits.
//! Works for root and for ordinary users alike.
//!
//! For debugging a machine can go without: what is left then are process ids and a root directory
//! of its own, without which it could not be put together and taken down.

mod cgroup;
mod landlock;
#[cfg(feature = "misbehave")]
pub mod misbehave;
mod namespaces;
mod privileges;
mod root;
mod seccomp;

use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use cgroup::Confined;
pub use cgroup::{LimitError, probe_limits, remove_limits};
pub use landlock::version as landlock;
pub(crate) use namespaces::{become_nobody, unshare, unshare_for_files};
pub(crate) use privileges::{Limits, drop_capabilities, keep_file_capabilities, limit};
pub(crate) use root::{Root, RootFile};
pub use seccomp::{HostCalls, host_calls};
pub(crate) use seccomp::{Role, confine};

/// Set once, when the process begins, and copied to its children.
static LEFT_OFF: AtomicBool = AtomicBool::new(false);

/// Go without a jail: for debugging.
pub(crate) fn leave_off() {
    LEFT_OFF.store(true, Ordering::Relaxed);
}

/// Whether this process and its children go without.
fn is_left_off() -> bool {
    LEFT_OFF.load(Ordering::Relaxed)
}

/// Be out of reach for other processes of the same user, the guest's among them.
pub(crate) fn hide() -> Result<(), JailError> {
    if is_left_off() {
        return Ok(());
    }
    nix::sys::prctl::set_dumpable(false).step("hide from the guest")
}

/// A step of the jail's construction that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}{advice}")]
pub(crate) struct JailError {
    step: &'static str,
    source: std::io::Error,
    advice: &'static str,
}

impl JailError {
    fn new(step: &'static str, source: impl Into<std::io::Error>) -> Self {
        Self {
            step,
            source: source.into(),
            advice: "",
        }
    }

    fn with_advice(mut self, advice: &'static str) -> Self {
        self.advice = advice;
        self
    }
}

/// Name the step that a result belongs to.
trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, JailError>;
}

impl<T, E: Into<std::io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, JailError> {
        self.map_err(|source| JailError::new(step, source))
    }
}
