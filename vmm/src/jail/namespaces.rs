//! A user and namespaces of the machine's own.

use std::fs;

use nix::sched::{CloneFlags, unshare as unshare_flags};
use nix::unistd::{Gid, Uid, getgid, getpid, getuid, setgroups, setresgid, setresuid};

use super::{JailError, Step, is_left_off};

/// Machines that root starts run as this user plus the number of their process: users that
/// nobody has, each machine another one.
const FIRST_UID: u32 = 0x7000_0000;

/// The user inside of the machine's user namespace: nobody.
const INSIDE_ID: u32 = 65534;

/// When root, become a user that owns nothing.
pub(crate) fn become_nobody() -> Result<(), JailError> {
    if !getuid().is_root() || is_left_off() {
        return Ok(());
    }
    let id = FIRST_UID + getpid().as_raw().unsigned_abs();
    let step = "give the machine a user of its own";
    setgroups(&[]).step(step)?;
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setresgid(gid, gid, gid).step(step)?;
    setresuid(uid, uid, uid).step(step)?;
    // Changing the user made the process's own /proc files root's; the user namespace's
    // maps are written there.
    nix::sys::prctl::set_dumpable(true).step(step)
}

/// Enter new namespaces. Children, not the caller, are in the new PID namespace.
pub(crate) fn unshare() -> Result<(), JailError> {
    if is_left_off() {
        let needed = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
        if getuid().is_root() {
            return unshare_flags(needed).step("make namespaces for the machine");
        }
        return enter(CloneFlags::CLONE_NEWUSER | needed, getuid().as_raw());
    }
    enter(
        CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID | COMMON,
        INSIDE_ID,
    )
}

/// Enter new namespaces to serve files from: root stays the host's root, because files have
/// all kinds of owners; an ordinary user is the guest's root.
pub(crate) fn unshare_for_files() -> Result<(), JailError> {
    if getuid().is_root() {
        return unshare_flags(COMMON).step("make namespaces for the shared directories");
    }
    enter(CloneFlags::CLONE_NEWUSER | COMMON, 0)
}

/// Namespaces that every process of a machine has.
const COMMON: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWCGROUP);

fn enter(flags: CloneFlags, inside: u32) -> Result<(), JailError> {
    let (uid, gid) = (getuid(), getgid());
    unshare_flags(flags).map_err(|errno| {
        JailError::new("make namespaces for the machine", errno).with_advice(
            ": user namespaces must be allowed (sysctl kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns, user.max_user_namespaces)",
        )
    })?;
    let step = "map the machine's user";
    fs::write("/proc/self/setgroups", "deny").step(step)?;
    fs::write("/proc/self/uid_map", format!("{inside} {uid} 1")).step(step)?;
    fs::write("/proc/self/gid_map", format!("{inside} {gid} 1")).step(step)
}
