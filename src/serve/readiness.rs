//! Waiting for a descriptor without a thread.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor; call it where tokio runs.
pub fn of(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is an open descriptor, always the same one, until it is dropped, and
    // it is owned by the `AsyncFd` from here on.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest)? })
}
