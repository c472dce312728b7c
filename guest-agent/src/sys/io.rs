//! Terminals, pipes and inherited descriptors.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// Owns a descriptor that the parent process left open for this one.
///
/// Returns an error when there is none with that number.
pub fn adopt(number: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: F_GETFD only asks whether the descriptor exists.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: the descriptor is open, and whoever started this program gave it to it alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// How many bytes can be read at once without waiting.
pub fn readable_bytes(fd: BorrowedFd<'_>) -> nix::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which outlives the call.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Tells a terminal its size; the kernel signals its foreground processes.
pub fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(())
}

/// Makes `terminal` the controlling terminal of the caller's session.
pub fn take_terminal(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes a number.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
    Ok(())
}

/// Unlocks the other end of a pseudo-terminal and opens it, naming no path.
pub fn open_terminal_peer(master: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which outlives the call.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as a number.
    let fd = Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of a pseudo-terminal, its name in devpts.
pub fn terminal_number(master: BorrowedFd<'_>) -> nix::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int, which outlives the call.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) })?;
    Ok(number)
}

/// Puts `fd` in the place of a standard stream (0, 1 or 2), inherited by programs.
pub fn replace_standard(fd: BorrowedFd<'_>, standard: RawFd) -> nix::Result<()> {
    if fd.as_raw_fd() == standard {
        // dup2 onto itself would leave the descriptor closed on exec.
        // SAFETY: F_SETFD takes a number.
        Errno::result(unsafe { libc::fcntl(standard, libc::F_SETFD, 0) })?;
        return Ok(());
    }
    // SAFETY: the standard streams have no owner in this program but the process itself.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), standard) })?;
    Ok(())
}
