//! Paths that a container must not read, or not write.
//!
//! Purpose: cover them when the container's root is this process's own already, so that a path
//! is one call: nothing that it leads through can lead out, and nobody else is in there yet.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use guest_agent::parse::mount_options::attr;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat, makedev};

use super::root::Root;
use crate::error::{Result, guest, reason};
use crate::sys::mount::{attach_at, clone_tree, restrict_at};

/// What covers a masked file.
#[derive(Debug)]
pub enum Null {
    /// The container's `/dev/null`.
    Own,
    /// A mount of the agent's, where the container's is something else.
    Agents(OwnedFd),
}

/// Finds what covers a file; before the agent's tree is left.
pub fn own_null(root: &Root) -> nix::Result<Null> {
    if let Ok(own) = root.lookup(Path::new("/dev/null")) {
        let stat = fstat(&own)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3) {
            return Ok(Null::Own);
        }
    }
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let agents = open(c"/dev/null", flags, Mode::empty())?;
    clone_tree(agents.as_fd(), false).map(Null::Agents)
}

/// Covers each path: a file with the null device, a directory with an empty read-only one.
pub fn mask(paths: &[String], null: Null) -> Result<()> {
    let mut agents = match null {
        Null::Own => None,
        Null::Agents(tree) => Some(tree),
    };
    for path in paths {
        let covered = match &mut agents {
            None => bind("/dev/null", path, MsFlags::empty()),
            Some(tree) => cover(tree, path),
        };
        let covered = match covered {
            Err(Errno::ENOTDIR) if Path::new(path).is_dir() => empty_directory(path),
            other => other,
        };
        match covered {
            // The kernel has not everything that some kernel has.
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(e) => return Err(guest(format!("cannot mask {path}"), reason(e))),
        }
    }
    Ok(())
}

/// Puts a detached mount over a path, and a new copy of it in its place.
fn cover(tree: &mut OwnedFd, path: &str) -> nix::Result<()> {
    let next = clone_tree(tree.as_fd(), false)?;
    attach_at(&*tree, &CString::new(path).map_err(|_| Errno::EINVAL)?)?;
    *tree = next;
    Ok(())
}

fn bind(source: &str, path: &str, more: MsFlags) -> nix::Result<()> {
    let none: Option<&str> = None;
    mount(Some(source), path, none, MsFlags::MS_BIND | more, none)
}

fn empty_directory(path: &str) -> nix::Result<()> {
    let tmpfs = Some("tmpfs");
    mount(tmpfs, path, tmpfs, MsFlags::MS_RDONLY, Some("nr_inodes=1"))
}

/// Makes each path, with everything mounted below it, read-only.
pub fn make_read_only(paths: &[String]) -> Result<()> {
    for path in paths {
        let failed = |e| guest(format!("cannot make {path} read-only"), reason(e));
        match bind(path, path, MsFlags::MS_REC) {
            Ok(()) => restrict_at(path, attr::RDONLY).map_err(failed)?,
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(())
}
