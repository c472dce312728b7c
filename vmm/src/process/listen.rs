//! Device sockets that the guest's program connects to by itself.
//!
//! QEMU's network devices pass descriptors only over sockets that they connected themselves to a
//! path, not over ones that they inherit. So each of them finds a listener in the scratch part
//! of the root directory, which is gone as soon as it has been used.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::running::Guest;
use super::{Failure, While};

/// A socket that waits for the guest's program.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixListener,
    path: String,
}

impl Listener {
    /// Listen at a path of the machine's root directory.
    pub(super) fn new(path: String) -> Result<Self, Failure> {
        let socket = UnixListener::bind(&path).while_doing("make a device socket")?;
        Ok(Self { socket, path })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Wait for the connection; none when the guest's program ends without it.
    pub(super) fn accept(self, guest: &Guest) -> Result<Option<UnixStream>, Failure> {
        loop {
            let mut fds = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(guest.end_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error).while_doing("wait for the guest's program"),
            }
            let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
            if ready(&fds[0]) {
                let accepted = self
                    .socket
                    .accept()
                    .while_doing("accept a device's connection");
                // The directory is small; what is left in it is no harm.
                let _ = fs::remove_file(&self.path);
                return accepted.map(|(stream, _)| Some(stream));
            }
            if ready(&fds[1]) {
                return Ok(None);
            }
        }
    }
}
