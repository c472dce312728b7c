//! Pseudo-terminals of the container's own devpts.
//!
//! Purpose: open both ends through a descriptor of the devpts mount, never through a path
//! that the container could have replaced.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use guest_agent::protocol::WindowSize;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::error::{Result, guest, reason};
use crate::sys::io::{open_terminal_peer, set_window_size, terminal_number};

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The agent's end, non-blocking.
    pub master: OwnedFd,
    /// The process's end.
    pub slave: OwnedFd,
}

/// Opens a new terminal of `size`.
pub fn open(devpts: BorrowedFd<'_>, size: WindowSize) -> Result<Terminal> {
    let failed = |e| guest("cannot open a terminal", reason(e));
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let master = openat(devpts, "ptmx", flags, Mode::empty()).map_err(failed)?;
    let slave = open_terminal_peer(master.as_fd()).map_err(failed)?;
    if size != WindowSize::default() {
        set_window_size(master.as_fd(), size.rows, size.columns).map_err(failed)?;
    }
    Ok(Terminal { master, slave })
}

/// The terminal's name in devpts.
pub fn number(terminal: &Terminal) -> Result<u32> {
    terminal_number(terminal.master.as_fd()).map_err(|e| guest("cannot name a terminal", reason(e)))
}
