//! Descriptors of processes, and getting rid of descriptors.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::unistd::Pid;

/// A descriptor that is readable when a process has ended.
pub(super) fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers; a non-negative result is a new descriptor that
    // nobody else owns.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd as RawFd))
        }
    }
}

/// Close every descriptor but the standard ones and these. For a process that has just
/// begun: whatever owned the others must never be used or dropped in it.
pub(super) fn close_others(keep: &[BorrowedFd<'_>]) {
    let mut keep: Vec<u32> = keep
        .iter()
        .map(|fd| fd.as_raw_fd().unsigned_abs())
        .filter(|fd| *fd > 2)
        .collect();
    keep.push(2);
    keep.sort_unstable();
    let ends = keep.iter().skip(1).map(|fd| fd - 1).chain([u32::MAX]);
    for (start, end) in keep.iter().zip(ends) {
        if start < &end {
            // SAFETY: the call takes no pointers; that nothing uses the descriptors any more
            // is this function's condition. It fails only for an empty range.
            unsafe { libc::close_range(start + 1, end, 0) };
        }
    }
}

/// Close every descriptor but the standard ones when another program is executed.
pub(super) fn close_others_on_exec() -> io::Result<()> {
    // SAFETY: the call takes no pointers and only sets flags.
    let result = unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
