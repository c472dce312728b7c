//! Making, reaping and signalling processes.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;

use super::check;

/// A process that [`clone`] made, as its parent sees it.
#[derive(Debug)]
pub struct Child {
    /// Its number in the parent's PID namespace.
    pub pid: i32,
    /// A descriptor that keeps meaning this process.
    pub pidfd: OwnedFd,
}

/// What `clone3` is asked for: a child with these flags and, with a length, this stack, in a
/// cgroup. The kernel stores the child's descriptor in `pidfd`.
pub(super) fn arguments(
    flags: i32,
    cgroup: Option<BorrowedFd<'_>>,
    (stack, stack_size): (u64, u64),
    pidfd: &mut i32,
) -> libc::clone_args {
    let mut flags = flags as u64 | libc::CLONE_PIDFD as u64;
    if cgroup.is_some() {
        // A 33-bit flag; the C library's constant does not fit its type everywhere.
        flags |= 0x2_0000_0000;
    }
    libc::clone_args {
        flags,
        pidfd: ptr::from_mut(pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack,
        stack_size,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    }
}

/// Forks into new namespaces (`CLONE_NEW*` bits) and into a cgroup; `None` in the child.
///
/// The agent has a single thread and no fork handlers, so the child may go on as after an
/// ordinary fork.
pub fn clone(namespaces: i32, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Option<Child>> {
    let mut pidfd: i32 = -1;
    let arguments = arguments(namespaces, cgroup, (0, 0), &mut pidfd);
    // SAFETY: without CLONE_VM the child gets a copy of this memory and goes on from here on
    // its own stack; the process has one thread, so no lock is held by another. The
    // arguments and `pidfd` outlive the call.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_ref(&arguments),
            size_of_val(&arguments),
        )
    })?;
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel stored a new descriptor for us, nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some(Child {
        pid: pid as i32,
        pidfd,
    }))
}

/// How a reaped process ended, in a shell's terms: its status, or 128 + n for signal n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// The process.
    pub pid: i32,
    /// Status or 128 + signal.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
}

/// Reaps one ended child, whichever; `None` when no child has ended.
pub fn reap() -> nix::Result<Option<Reaped>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = match Errno::result(unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) }) {
            Ok(0) | Err(Errno::ECHILD) => return Ok(None),
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let (code, signal) = if libc::WIFEXITED(status) {
            (libc::WEXITSTATUS(status), 0)
        } else if libc::WIFSIGNALED(status) {
            (128 + libc::WTERMSIG(status), libc::WTERMSIG(status))
        } else {
            continue;
        };
        return Ok(Some(Reaped { pid, code, signal }));
    }
}

/// Sends any signal, real-time ones too, through a pidfd.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    // SAFETY: a null siginfo is allowed; no other pointer is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}

/// Sends any signal by process number, to a child that was not reaped yet.
pub fn kill(pid: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: no pointers are passed.
    Errno::result(unsafe { libc::kill(pid, signal) })?;
    Ok(())
}

/// Blocks every signal; they are taken with [`wait_signal`] or a signalfd.
pub fn block_signals() -> nix::Result<()> {
    nix::sys::signal::SigSet::all().thread_block()
}

/// Waits for any blocked signal and returns its number.
pub fn wait_signal() -> nix::Result<i32> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut number = 0;
    // SAFETY: sigfillset initialises the set, sigwait then reads it; both outlive the calls.
    let error = unsafe {
        libc::sigfillset(set.as_mut_ptr());
        libc::sigwait(set.as_ptr(), &mut number)
    };
    if error == 0 {
        Ok(number)
    } else {
        Err(Errno::from_raw(error))
    }
}

/// Gives SIGPIPE, the one signal that Rust's runtime ignores, its default action and
/// unblocks all signals: the state that a program expects to start in.
pub fn reset_signals() -> nix::Result<()> {
    // SAFETY: SIG_DFL installs no handler that could run in a bad state.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(Errno::last());
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()
}

/// Marks every descriptor from `first` on as closed on exec.
pub fn close_on_exec_from(first: i32) -> nix::Result<()> {
    // SAFETY: the flag closes nothing now, so no owner loses its descriptor.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            i32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    Ok(())
}

/// Closes every descriptor from `first` on, for a process that will never return to code
/// that owns one of them.
pub fn close_from(first: i32) -> nix::Result<()> {
    // SAFETY: the caller is a forked child that only waits and exits from here on; no owner
    // of a descriptor runs again in it.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, i32::MAX, 0) })?;
    Ok(())
}

/// Ends the process at once, without running anything that belongs to the parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}
