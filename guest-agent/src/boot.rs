//! The duties of PID 1 before it serves.
//!
//! Purpose: listen first and tell the host, so that its request is on the way while the
//! rest is set up: file systems, control group, loopback, limits.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use guest_agent::protocol::{AGENT_PORT, READY_PORT};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{Mode, umask};

use crate::agent::Setup;
use crate::container::cgroup::Cgroup;
use crate::container::launch::Common;
use crate::error::{Result, guest, reason};
use crate::options::Options;
use crate::storage::filesystem;
use crate::sys::{cred, io, system, task};

/// Open files that the agent allows itself.
const OPEN_FILES: u64 = 65_536;

/// Connections that the kernel holds for us.
const BACKLOG: i32 = 1024;

/// Prepares everything that the loop needs.
pub fn boot(options: Options) -> Result<Setup> {
    let (listener, ready) = match options.listener {
        Some(fd) => (
            io::adopt(fd).map_err(|e| guest("bad listener", reason(e)))?,
            None,
        ),
        None => listen_on_vsock()?,
    };
    task::block_signals().map_err(|e| guest("cannot block signals", reason(e)))?;
    umask(Mode::empty());
    cred::set_undumpable().map_err(|e| guest("cannot protect the agent's memory", reason(e)))?;

    for (fstype, target) in [
        ("proc", c"/proc"),
        ("sysfs", c"/sys"),
        ("devtmpfs", c"/dev"),
    ] {
        filesystem::mount_at(fstype, target)?;
    }
    let cgroup = Cgroup::create(&options.cgroup)?;
    // A kernel without IPv4 has no loopback to bring up.
    match system::loopback_up() {
        Ok(()) | Err(Errno::EAFNOSUPPORT) => {}
        Err(e) => return Err(guest("cannot bring the loopback interface up", reason(e))),
    }

    let open_files =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| guest("cannot read limits", reason(e)))?;
    let raised = setrlimit(
        Resource::RLIMIT_NOFILE,
        OPEN_FILES,
        OPEN_FILES.max(open_files.1),
    );
    // The same: what is allowed has to do.
    let raised = raised.or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, open_files.1, open_files.1));
    raised.map_err(|e| guest("cannot raise the limit of open files", reason(e)))?;
    let path = |path: &str, flags| {
        open(path, flags | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| guest(format!("cannot open {path}"), reason(e)))
    };
    let common = Common {
        null: path("/dev/null", OFlag::O_RDWR)?,
        pid_namespace: path("/proc/self/ns/pid", OFlag::O_RDONLY)?,
        open_files,
    };
    Ok(Setup {
        listener,
        ready,
        devices: options.devices.map(Rc::new),
        common,
        cgroup,
    })
}

/// Listens, then begins to connect to the host as the sign of it.
fn listen_on_vsock() -> Result<(OwnedFd, Option<OwnedFd>)> {
    let failed = |e| guest("cannot listen on the vsock", reason(e));
    let new = || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        socket(AddressFamily::Vsock, SockType::Stream, flags, None).map_err(failed)
    };
    let listener = new()?;
    bind(
        listener.as_raw_fd(),
        &VsockAddr::new(libc::VMADDR_CID_ANY, AGENT_PORT),
    )
    .map_err(failed)?;
    listen(&listener, Backlog::new(BACKLOG).map_err(failed)?).map_err(failed)?;
    let ready = new()?;
    match connect(
        ready.as_raw_fd(),
        &VsockAddr::new(libc::VMADDR_CID_HOST, READY_PORT),
    ) {
        Err(Errno::EINPROGRESS) => Ok((listener, Some(ready))),
        // A host that does not wait for the sign refuses it.
        Ok(()) | Err(_) => Ok((listener, None)),
    }
}

/// Mixes the host's random bytes into the kernel's pool.
pub fn add_entropy(bytes: &[u8]) -> Result<()> {
    let random = open(
        "/dev/urandom",
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| guest("cannot open /dev/urandom", reason(e)))?;
    system::add_entropy(random.as_fd(), bytes).map_err(|e| guest("cannot add entropy", reason(e)))
}
