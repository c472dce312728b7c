//! Capabilities, process attributes and limits.

use std::ffi::CStr;

use nix::errno::Errno;

use super::check;

/// The three capability sets of a thread, one bit per capability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What counts in permission checks.
    pub effective: u64,
    /// What may become effective.
    pub permitted: u64,
    /// What a program with file capabilities may keep.
    pub inheritable: u64,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets the caller's capability sets.
pub fn set_capabilities(sets: CapabilitySets) -> nix::Result<()> {
    let header = Header {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads one header and two data structures, which is what is passed.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

fn prctl(option: i32, a: u64, b: u64) -> nix::Result<i32> {
    // SAFETY: the options used in this module take numbers, not pointers.
    Errno::result(unsafe { libc::prctl(option, a, b, 0u64, 0u64) })
}

/// Removes a capability from the bounding set; `false` when the kernel does not know it.
pub fn drop_bounding(capability: u32) -> nix::Result<bool> {
    match prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0) {
        Ok(_) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Adds a capability to the ambient set.
pub fn raise_ambient(capability: u32) -> nix::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_RAISE as u64,
        u64::from(capability),
    )
    .map(drop)
}

/// Whether permitted capabilities outlive a change of the user.
pub fn set_keep_capabilities(keep: bool) -> nix::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep), 0).map(drop)
}

/// Makes set-user-ID bits and file capabilities count for nothing from here on.
pub fn set_no_new_privileges() -> nix::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Keeps other processes from reading this one's memory and descriptors.
pub fn set_undumpable() -> nix::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop)
}

/// Changes the name that `ps` shows.
pub fn set_name(name: &CStr) -> nix::Result<()> {
    // SAFETY: the kernel reads at most 16 bytes of the NUL-terminated name.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0u64, 0u64, 0u64) })
        .map(drop)
}

/// Sets one of the caller's limits by its number on Linux.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the structure outlives the call; a null old limit is allowed.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null::<libc::rlimit64>(),
        )
    })?;
    Ok(())
}

/// Whether the caller, with its effective identity, may execute `path`.
pub fn may_execute(path: &CStr) -> nix::Result<()> {
    // SAFETY: the path is NUL-terminated and outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::X_OK,
            libc::AT_EACCESS,
        )
    })?;
    Ok(())
}
