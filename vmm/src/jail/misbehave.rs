//! What a process of a machine that was taken over would try, tried.
//!
//! Built only with the feature `misbehave`, for the tests of the jail, and never without debug
//! assertions: no release does any of this. The environment variable [`VARIABLE`] says which
//! process tries what, behind the system call filter or just before it is there, when only the
//! rest of the jail holds. The machine then ends and says what came of it.

use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Pid, execve};

use super::{JailError, Role};

#[cfg(not(debug_assertions))]
compile_error!("the feature misbehave is for tests, and not for a release");

/// How a process ends whose attempt succeeded.
pub const SUCCESS: i32 = 77;

/// "ROLE LAYER ATTEMPT,ATTEMPT... VICTIM PORT".
pub const VARIABLE: &str = "HULL_MISBEHAVE";

/// Something that nobody in the jail may do.
pub struct Attempt {
    /// Its name.
    pub name: &'static str,
    /// Only the filter is in the way: the call would reach nothing of the host by itself, but it
    /// is more of the host's kernel than is needed.
    pub filter_only: bool,
    run: fn(&Target) -> io::Result<()>,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Another process of the host, and a port that it listens on.
#[derive(Debug)]
struct Target {
    victim: i32,
    port: u16,
}

const fn hard(name: &'static str, run: fn(&Target) -> io::Result<()>) -> Attempt {
    Attempt {
        name,
        filter_only: false,
        run,
    }
}

const fn filtered(name: &'static str, run: fn(&Target) -> io::Result<()>) -> Attempt {
    Attempt {
        name,
        filter_only: true,
        run,
    }
}

/// Everything that is tried.
pub const ATTEMPTS: &[Attempt] = &[
    hard("open", |_| File::open("/etc/passwd").map(drop)),
    hard("climb", |_| File::open("/../../../../etc/passwd").map(drop)),
    hard("write", |_| File::create("/escaped").map(drop)),
    hard("host-proc", |target| {
        fs::read(format!("/proc/{}/status", target.victim)).map(drop)
    }),
    hard("connect", |target| {
        TcpStream::connect(("127.0.0.1", target.port)).map(drop)
    }),
    hard("connect-local", |target| {
        let name = format!("hull-misbehave-{}", target.port);
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?).map(drop)
    }),
    hard("ptrace", |target| {
        let number = libc::PTRACE_SEIZE;
        let none: *mut libc::c_void = std::ptr::null_mut();
        // SAFETY: this request takes no pointers.
        Errno::result(unsafe { libc::ptrace(number, target.victim, none, none) })?;
        Ok(())
    }),
    hard("read-memory", |target| {
        let mut byte = 0u8;
        let local = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let remote = libc::iovec {
            iov_base: 0x1000 as *mut libc::c_void,
            iov_len: 1,
        };
        // SAFETY: the kernel writes up to one byte to `byte`, and reads the vectors.
        let read = unsafe { libc::process_vm_readv(target.victim, &local, 1, &remote, 1, 0) };
        match Errno::result(read) {
            // It would have been read if something were there.
            Ok(_) | Err(Errno::EFAULT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }),
    hard("kill", |target| {
        let signal = nix::sys::signal::Signal::SIGKILL;
        Ok(nix::sys::signal::kill(
            Pid::from_raw(target.victim),
            signal,
        )?)
    }),
    hard("mount", |_| {
        let none: Option<&str> = None;
        Ok(mount(
            Some("x"),
            "/",
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )?)
    }),
    hard("execve", |_| {
        let nothing: &[&std::ffi::CStr] = &[];
        execve(c"/bin/sh", &[c"sh"], nothing).map(drop)?;
        Ok(())
    }),
    hard("device", |_| {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(mknod("/disk", SFlag::S_IFBLK, mode, makedev(8, 0))?)
    }),
    hard("become-root", |_| {
        // The C library's would make all other threads do the same, behind their own filters.
        for number in [libc::SYS_setresgid, libc::SYS_setresuid] {
            // SAFETY: takes numbers only.
            Errno::result(unsafe { libc::syscall(number, 0, 0, 0) })?;
        }
        Ok(())
    }),
    filtered("namespace", |_| Ok(unshare(CloneFlags::CLONE_NEWUSER)?)),
    filtered("packet-socket", |_| {
        // SAFETY: takes numbers only; the new descriptor is never used.
        Errno::result(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) })?;
        Ok(())
    }),
    filtered("io-uring", |_| {
        let mut parameters = [0u8; 256];
        // SAFETY: the kernel reads and writes at most 120 bytes of the parameters.
        let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
        Errno::result(ring)?;
        Ok(())
    }),
    filtered("keys", |_| {
        // Make and join a session's keys.
        let none: *const libc::c_void = std::ptr::null();
        // SAFETY: the request takes a name, which may be none.
        Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, 1, none) })?;
        Ok(())
    }),
    filtered("make-machine", |_| {
        // Every descriptor might be KVM's.
        (0..64)
            .find(|fd| {
                // SAFETY: the request takes a number; what it makes is never used.
                unsafe { libc::ioctl(*fd, 0xae01, 0) >= 0 }
            })
            .map(drop)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }),
    filtered("executable-memory", |_| {
        // SAFETY: a new mapping at no particular place, which is never used.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_EXEC,
                libc::MAP_ANONYMOUS | libc::MAP_PRIVATE,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }),
    // Not forbidden: shows that what is tried is tried.
    filtered("nothing", |_| Ok(())),
];

/// The name of a role.
fn name(role: Role) -> &'static str {
    match role {
        Role::Waiter => "waiter",
        Role::Devices => "devices",
        Role::Cpu => "cpu",
        Role::Shares => "shares",
        Role::Uml => "uml",
        Role::Qemu => "qemu",
    }
}

/// Try what the environment says, if this is the process and the moment.
pub(super) fn here(role: Role, layer: &str) -> Result<(), JailError> {
    let Ok(order) = std::env::var(VARIABLE) else {
        return Ok(());
    };
    let words: Vec<&str> = order.split(' ').collect();
    let [whose, when, what, victim, port] = words[..] else {
        return Err(said("an order that makes no sense".to_owned()));
    };
    if (whose, when) != (name(role), layer) {
        return Ok(());
    }
    let (Ok(victim), Ok(port)) = (victim.parse(), port.parse()) else {
        return Err(said("an order that makes no sense".to_owned()));
    };
    let target = Target { victim, port };
    let mut results = Vec::new();
    for name in what.split(',') {
        let Some(attempt) = ATTEMPTS.iter().find(|attempt| attempt.name == name) else {
            return Err(said(format!("{name} is no attempt")));
        };
        match (attempt.run)(&target) {
            // Not every process could still tell.
            // SAFETY: ends the process at once.
            Ok(()) => unsafe { libc::_exit(SUCCESS) },
            Err(error) => {
                let errno = error.raw_os_error().map(Errno::from_raw);
                results.push(match errno {
                    Some(errno) => format!("{name}: {errno:?}"),
                    None => format!("{name}: {error}"),
                });
            }
        }
    }
    Err(said(results.join("; ")))
}

fn said(text: String) -> JailError {
    JailError::new("go on after an attempt", io::Error::other(text))
}
