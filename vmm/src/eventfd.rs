//! Eventfds, as this crate and as the crates that speak to KVM and vhost-user hold them.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// A new one that never blocks.
pub(crate) fn new() -> io::Result<File> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    Ok(File::from(OwnedFd::from(EventFd::from_flags(flags)?)))
}

/// Another handle on one, for crates that have a type of their own for it.
pub(crate) fn foreign(fd: BorrowedFd<'_>) -> io::Result<vmm_sys_util::eventfd::EventFd> {
    let fd = fd.try_clone_to_owned()?.into_raw_fd();
    // SAFETY: the descriptor has just been made, and nothing else owns it.
    Ok(unsafe { vmm_sys_util::eventfd::EventFd::from_raw_fd(fd) })
}
