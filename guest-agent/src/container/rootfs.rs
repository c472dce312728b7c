//! The child's way from the agent's tree into the container's.
//!
//! Purpose: in namespaces of its own, finish the merged root (mounts, devices, terminal,
//! masked paths) and make it `/`, so that nothing of the agent's tree is reachable.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use guest_agent::parse::mount_options::{self, attr};
use guest_agent::protocol::Start;
use guest_agent::protocol::runtime::Linux;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, fchdir, pivot_root, sethostname};

use super::root::Root;
use super::{dev, masks, mounts, pty};
use crate::error::{Result, guest, invalid, reason};
use crate::storage::MERGED;
use crate::sys::mount::set_attributes;

/// What the child has when the container's root is its own.
#[derive(Debug)]
pub struct Entered {
    /// The container's devpts, for terminals of later processes.
    pub devpts: Option<OwnedFd>,
    /// Both ends of the first process's terminal, when it has one.
    pub terminal: Option<pty::Terminal>,
}

/// Builds and enters the container's root. The caller is in new mount, PID, UTS and IPC
/// namespaces and in the container's cgroup already.
pub fn enter(start: &Start) -> Result<Entered> {
    unshare(CloneFlags::CLONE_NEWCGROUP)
        .map_err(|e| guest("cannot create a cgroup namespace", reason(e)))?;
    let spec = &start.spec;
    if let Some(name) = &spec.hostname {
        sethostname(name).map_err(|e| invalid(format!("bad hostname {name:?}: {}", reason(e))))?;
    }
    let root = Root::open(MERGED).map_err(|e| guest("cannot open the merged root", reason(e)))?;
    let mounted = mounts::perform(start, &root)?;
    let linux = &spec.linux;
    dev::populate(&root, &linux.devices)?;
    let terminal = match (start.stdio.terminal, &mounted.devpts) {
        (None, _) => None,
        (Some(_), None) => {
            return Err(invalid("a terminal needs a devpts mount at /dev/pts"));
        }
        (Some(size), Some(devpts)) => {
            let terminal = pty::open(devpts.as_fd(), size)?;
            let number = pty::number(&terminal)?;
            dev::bind_console(&root, devpts.as_fd(), number)?;
            Some(terminal)
        }
    };
    set_sysctls(&root, linux)?;
    let null = masks::own_null(&root).map_err(|e| guest("cannot find /dev/null", reason(e)))?;
    if spec.root.readonly {
        set_attributes(root.fd(), attr::RDONLY, 0, false)
            .map_err(|e| guest("cannot make the root read-only", reason(e)))?;
    }
    pivot(&root)?;
    masks::make_read_only(&linux.readonly_paths)?;
    masks::mask(&linux.masked_paths, null)?;
    set_propagation(&root, linux)?;
    Ok(Entered {
        devpts: mounted.devpts,
        terminal,
    })
}

/// Makes `root` the root of this mount namespace and lets go of everything else in it.
fn pivot(root: &Root) -> Result<()> {
    let failed = |e| guest("cannot enter the container's root", reason(e));
    fchdir(root.fd()).map_err(failed)?;
    // The old root ends up mounted over the new one; detaching it uncovers the new one.
    pivot_root(".", ".").map_err(failed)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed)?;
    chdir("/").map_err(failed)
}

fn set_propagation(root: &Root, linux: &Linux) -> Result<()> {
    let Some(name) = linux.rootfs_propagation.as_deref() else {
        return Ok(());
    };
    let propagation = mount_options::propagation(name)
        .ok_or_else(|| invalid(format!("unknown root propagation {name:?}")))?;
    set_attributes(root.fd(), 0, propagation.flag, propagation.recursive)
        .map_err(|e| guest(format!("cannot make the root {name}"), reason(e)))
}

fn set_sysctls(root: &Root, linux: &Linux) -> Result<()> {
    for (key, value) in &linux.sysctl {
        // As in sysctl(8): dots separate, and a slash stands for a dot in a name.
        let path: String = key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect();
        let path = PathBuf::from("/proc/sys").join(path.trim_start_matches('/'));
        let failed =
            |e: std::io::Error| invalid(format!("cannot set sysctl {key} to {value:?}: {e}"));
        let fd = root
            .open_at(&path, OFlag::O_WRONLY)
            .map_err(|e| failed(e.into()))?;
        std::fs::File::from(fd)
            .write_all(value.as_bytes())
            .map_err(failed)?;
    }
    Ok(())
}
