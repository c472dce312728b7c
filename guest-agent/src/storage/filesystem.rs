//! Mounting a file system with the kernel's descriptor-based calls.
//!
//! Purpose: one function that creates a detached mount from a type, a source and options,
//! and explains a failure with what the file system itself said.

use std::ffi::{CStr, CString, NulError};
use std::fmt;
use std::os::fd::OwnedFd;

use guest_agent::protocol::AgentError;
use nix::errno::Errno;
use nix::mount::MsFlags;

use crate::error::{guest, reason};
use crate::sys::mount::FsContext;

/// A file system that could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {fstype} from {source_name}: {problem}")]
pub struct MountError {
    fstype: String,
    source_name: String,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Kernel(Errno, String),
    Nul,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(errno, text) if text.is_empty() => f.write_str(&reason(*errno)),
            Self::Kernel(errno, text) => write!(f, "{} ({text})", reason(*errno)),
            Self::Nul => f.write_str("an option contains a zero byte"),
        }
    }
}

impl From<NulError> for Problem {
    fn from(_: NulError) -> Self {
        Self::Nul
    }
}

impl From<MountError> for AgentError {
    fn from(error: MountError) -> Self {
        Self {
            kind: guest("", "").kind,
            message: error.to_string(),
        }
    }
}

/// Mounts one of the kernel's own file systems, which needs no options, at a path of the
/// caller's tree: one call, where a detached mount takes seven.
pub fn mount_at(fstype: &str, path: &CStr) -> Result<(), MountError> {
    let none: Option<&str> = None;
    let mounted = nix::mount::mount(Some(fstype), path, Some(fstype), MsFlags::empty(), none);
    mounted.map_err(|errno| MountError {
        fstype: fstype.to_owned(),
        source_name: fstype.to_owned(),
        problem: Problem::Kernel(errno, String::new()),
    })
}

/// A detached mount of a new file system; `attributes` are `MOUNT_ATTR_*` bits.
pub fn mount<'a>(
    fstype: &str,
    source: &str,
    options: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    attributes: u64,
) -> Result<OwnedFd, MountError> {
    try_mount(fstype, source, options, attributes).map_err(|problem| MountError {
        fstype: fstype.to_owned(),
        source_name: source.to_owned(),
        problem,
    })
}

fn try_mount<'a>(
    fstype: &str,
    source: &str,
    options: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    attributes: u64,
) -> Result<OwnedFd, Problem> {
    let context = FsContext::open(&CString::new(fstype)?)
        .map_err(|errno| Problem::Kernel(errno, String::new()))?;
    let explain = |errno| Problem::Kernel(errno, context.message());
    context
        .string(c"source", &CString::new(source)?)
        .map_err(explain)?;
    for (key, value) in options {
        let key = CString::new(key)?;
        match value {
            Some(value) => context
                .string(&key, &CString::new(value)?)
                .map_err(explain)?,
            None => context.flag(&key).map_err(explain)?,
        }
    }
    context.create().map_err(explain)?;
    context.mount(attributes).map_err(explain)
}
