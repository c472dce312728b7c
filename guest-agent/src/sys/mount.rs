//! The kernel's file-descriptor based mount calls.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

use nix::errno::Errno;
use nix::mount::MsFlags;

use super::check;

/// A file system being configured, from `fsopen`.
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// Begins the creation of a file system of this type.
    pub fn open(fstype: &CStr) -> nix::Result<Self> {
        // SAFETY: the pointer is to a NUL-terminated string that outlives the call.
        let fd = check(unsafe {
            libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), libc::FSOPEN_CLOEXEC)
        })?;
        // SAFETY: the kernel just returned this descriptor, nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Sets an option that has a string as its value.
    pub fn string(&self, key: &CStr, value: &CStr) -> nix::Result<()> {
        self.config(libc::FSCONFIG_SET_STRING, Some(key), Some(value), 0)
    }

    /// Sets an option that has no value.
    pub fn flag(&self, key: &CStr) -> nix::Result<()> {
        self.config(libc::FSCONFIG_SET_FLAG, Some(key), None, 0)
    }

    /// Creates the file system from the options.
    pub fn create(&self) -> nix::Result<()> {
        self.config(libc::FSCONFIG_CMD_CREATE, None, None, 0)
    }

    /// A mount of the created file system that is not attached anywhere yet.
    pub fn mount(&self, attributes: u64) -> nix::Result<OwnedFd> {
        // SAFETY: no pointers are passed.
        let fd = check(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                libc::FSMOUNT_CLOEXEC,
                attributes as libc::c_uint,
            )
        })?;
        // SAFETY: the kernel just returned this descriptor, nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// What the file system had to say about a failure; empty when it said nothing.
    pub fn message(&self) -> String {
        let mut text = String::new();
        let mut line = [0u8; 256];
        // Each read returns one message as `e text`, until ENODATA.
        while let Ok(len) = nix::unistd::read(&self.0, &mut line) {
            let Some(message) = line.get(2..len).filter(|_| line.starts_with(b"e ")) else {
                break;
            };
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(String::from_utf8_lossy(message).trim_end());
        }
        text
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
        aux: i32,
    ) -> nix::Result<()> {
        let key = key.map_or(ptr::null(), CStr::as_ptr);
        let value = value.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: both pointers are null, which these commands allow, or to NUL-terminated
        // strings that outlive the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                key,
                value,
                aux,
            )
        })?;
        Ok(())
    }
}

/// Attaches a detached mount at what `target` refers to.
pub fn attach(mount: impl AsFd, target: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount.as_fd(), target.as_raw_fd(), c"", flags)
}

/// Attaches a detached mount at an absolute path of the caller's own root.
pub fn attach_at(mount: impl AsFd, path: &CStr) -> nix::Result<()> {
    move_mount(
        mount.as_fd(),
        libc::AT_FDCWD,
        path,
        libc::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

fn move_mount(
    mount: BorrowedFd<'_>,
    target: i32,
    path: &CStr,
    flags: libc::c_uint,
) -> nix::Result<()> {
    // SAFETY: both paths are NUL-terminated and outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target,
            path.as_ptr(),
            flags,
        )
    })?;
    Ok(())
}

/// Binds what a path of the caller's tree means on what `target` refers to, in one call where
/// a detached copy takes three.
pub fn bind(source: &Path, target: BorrowedFd<'_>) -> nix::Result<()> {
    let none: Option<&str> = None;
    // The kernel follows this link to the descriptor's own place and no further.
    let target = format!("/proc/self/fd/{}", target.as_raw_fd());
    nix::mount::mount(Some(source), target.as_str(), none, MsFlags::MS_BIND, none)
}

/// A detached copy of the mount tree at what `source` refers to, starting at it.
pub fn clone_tree(source: BorrowedFd<'_>, recursive: bool) -> nix::Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    // SAFETY: the path is NUL-terminated and outlives the call.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_open_tree, source.as_raw_fd(), c"".as_ptr(), flags)
    })?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Adds attributes to a mount (to all below it too) and changes its propagation.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    propagation: u64,
    recursive: bool,
) -> nix::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    change(mount.as_raw_fd(), c"", flags, &attributes)
}

/// Adds attributes to the mount at a path of the caller's own root, and to all below it.
pub fn restrict_at(path: &str, set: u64) -> nix::Result<()> {
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    change(libc::AT_FDCWD, &path, libc::AT_RECURSIVE, &attributes)
}

fn change(
    directory: i32,
    path: &CStr,
    flags: libc::c_int,
    attributes: &libc::mount_attr,
) -> nix::Result<()> {
    // SAFETY: the path is NUL-terminated, the structure is as long as the size says, and
    // both outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            flags,
            ptr::from_ref(attributes),
            size_of_val(attributes),
        )
    })?;
    Ok(())
}
