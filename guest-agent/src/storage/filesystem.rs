//! Mounting a file system: in one call where that serves, else by the kernel's
//! descriptor-based calls.
//!
//! Purpose: a container's mounts are a third of its start, and a system call is what is expensive
//! in a guest of user-mode Linux. `mount` does all in one, but says little of what is wrong; so
//! whatever it refuses is tried again by the long way, which explains itself.

use std::ffi::{CStr, CString, NulError};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use guest_agent::parse::mount_options::attr;
use guest_agent::protocol::AgentError;
use nix::errno::Errno;
use nix::mount::MsFlags;

use crate::error::{guest, reason};
use crate::sys::mount::{FsContext, attach, attach_at};

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

/// What to mount, without where.
#[derive(Debug, Clone, Copy)]
pub struct NewMount<'a> {
    /// The file system's type.
    pub fstype: &'a str,
    /// A device, or the name that lists of mounts show.
    pub source: &'a str,
    /// Options of the file system.
    pub options: &'a [(&'a str, Option<&'a str>)],
    /// Bits of [`attr`].
    pub attributes: u64,
}

impl<'a> NewMount<'a> {
    /// A read-only EROFS image on a device.
    pub fn image(device: &'a str) -> Self {
        Self {
            fstype: "erofs",
            source: device,
            // The device cannot be written, so it must not be opened for that.
            options: &[("ro", None)],
            attributes: attr::RDONLY,
        }
    }

    /// Mounts it at a path of the caller's tree.
    pub fn at(&self, path: &CStr) -> Result<(), MountError> {
        if self.at_once(path).is_some() {
            return Ok(());
        }
        let mount = self.detached()?;
        attach_at(&mount, path).map_err(|errno| self.failed(errno))
    }

    /// Mounts it on what a descriptor refers to.
    pub fn on(&self, target: BorrowedFd<'_>) -> Result<(), MountError> {
        // The kernel follows this link to the descriptor's own place and no further.
        let path = CString::new(format!("/proc/self/fd/{}", target.as_raw_fd()));
        if path.is_ok_and(|path| self.at_once(&path).is_some()) {
            return Ok(());
        }
        let mount = self.detached()?;
        attach(mount.as_fd(), target).map_err(|errno| self.failed(errno))
    }

    fn detached(&self) -> Result<OwnedFd, MountError> {
        let options = self.options.iter().copied();
        mount(self.fstype, self.source, options, self.attributes)
    }

    fn failed(&self, errno: Errno) -> MountError {
        MountError {
            fstype: self.fstype.to_owned(),
            source_name: self.source.to_owned(),
            problem: Problem::Kernel(errno, String::new()),
        }
    }

    /// One call; none where it does not serve.
    fn at_once(&self, path: &CStr) -> Option<()> {
        let flags = flags(self.attributes)?;
        let mut data = String::new();
        for (key, value) in self.options {
            if !data.is_empty() {
                data.push(',');
            }
            data.push_str(key);
            if let Some(value) = value {
                // A comma would begin another option.
                if value.contains(',') {
                    return None;
                }
                data.push('=');
                data.push_str(value);
            }
        }
        let data = (!data.is_empty()).then_some(data.as_str());
        nix::mount::mount(Some(self.source), path, Some(self.fstype), flags, data).ok()
    }
}

/// The flags of `mount` that mean the same as these attributes; none where there are none.
fn flags(attributes: u64) -> Option<MsFlags> {
    let pairs = [
        (attr::RDONLY, MsFlags::MS_RDONLY),
        (attr::NOSUID, MsFlags::MS_NOSUID),
        (attr::NODEV, MsFlags::MS_NODEV),
        (attr::NOEXEC, MsFlags::MS_NOEXEC),
        (attr::NOATIME, MsFlags::MS_NOATIME),
        (attr::STRICTATIME, MsFlags::MS_STRICTATIME),
        (attr::NODIRATIME, MsFlags::MS_NODIRATIME),
    ];
    let known = pairs.iter().fold(0, |all, (attribute, _)| all | attribute);
    if attributes & !known != 0 {
        return None;
    }
    let set = pairs.iter().filter(|(bit, _)| attributes & bit != 0);
    Some(set.fold(MsFlags::empty(), |all, (_, flag)| all | *flag))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_flags_or_need_the_long_way() {
        let both = MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC;
        assert_eq!(flags(attr::RDONLY | attr::NOEXEC), Some(both));
        assert_eq!(flags(0), Some(MsFlags::empty()));
        assert_eq!(flags(attr::NOSYMFOLLOW), None);
    }
}
