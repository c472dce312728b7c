//! The socket that systemd hands over when somebody connects to it.

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The first descriptor that is handed over, as the protocol has it.
const FIRST: i32 = 3;

/// The listening socket in `LISTEN_FDS`, if this process was given one.
pub fn listener() -> io::Result<Option<UnixListener>> {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    let (pid, count) = (number("LISTEN_PID"), number("LISTEN_FDS"));
    if pid != Some(std::process::id()) || count.is_none_or(|count| count == 0) {
        return Ok(None);
    }
    if File::open(format!("/proc/self/fd/{FIRST}")).is_err()
        && !std::path::Path::new(&format!("/proc/self/fd/{FIRST}")).exists()
    {
        return Err(io::Error::other("descriptor 3 is not open"));
    }
    // SAFETY: the protocol says that this descriptor was opened for this process, which has just
    // begun: nothing has opened one at this number since, and this is called once.
    let descriptor = unsafe { OwnedFd::from_raw_fd(FIRST) };
    fcntl(descriptor.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let listener = UnixListener::from(descriptor);
    let address = listener.local_addr()?;
    if let Some(path) = address.as_pathname() {
        // The socket is worth all that its owner may do, and systemd's own default is anybody's.
        let mode = path.symlink_metadata()?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(io::Error::other(format!(
                "{} is open to others, set SocketMode=0600",
                path.display()
            )));
        }
    }
    Ok(Some(listener))
}
