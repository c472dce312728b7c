//! The guest's process: made ready in the jail, then executed.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::personality::{self, Persona};
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

use super::{Failure, While};
use crate::engine::GuestProgram;
use crate::jail::{self, Limits, Role};

/// What the guest's process gets.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) program: &'a GuestProgram,
    /// The executable.
    pub(super) executable: OwnedFd,
    /// What it finds open: its ends of the devices' sockets, and its memory.
    pub(super) descriptors: &'a [OwnedFd],
    /// Its standard output and error.
    pub(super) console: File,
    /// What its program is.
    pub(super) role: Role,
    /// Whether the guest, its children and the caller run on one CPU only.
    pub(super) one_cpu: bool,
}

/// Make the guest's process, with no more privileges than the caller's. It dies with the
/// caller.
pub(super) fn spawn(start: Start<'_>) -> Result<Pid, Failure> {
    // Its writing end closes with this process: how the child knows that it was too late
    // to ask for its parent's death.
    let (lifeline, holder) = io::pipe().while_doing("make a pipe")?;
    if start.one_cpu {
        // The one that this process is on. The guest and its devices hand over to each other
        // all the time as well, most of all while it boots.
        let cpu = sched_getcpu().while_doing("choose a CPU")?;
        let mut set = CpuSet::new();
        set.set(cpu).while_doing("choose a CPU")?;
        sched_setaffinity(Pid::from_raw(0), &set).while_doing("choose a CPU")?;
    }
    // SAFETY: this process still has a single thread, so the child may do everything.
    match unsafe { fork() }.while_doing("make the guest's process")? {
        ForkResult::Parent { child } => {
            // Kept open as long as this process lives.
            std::mem::forget(holder);
            Ok(child)
        }
        ForkResult::Child => {
            drop(holder);
            let Err(failure) = execute(&start, &lifeline);
            eprintln!("{failure}");
            // SAFETY: ends the process without running what the parent registered for its
            // own end.
            unsafe { libc::_exit(127) }
        }
    }
}

fn execute(start: &Start<'_>, lifeline: &PipeReader) -> Result<Infallible, Failure> {
    let null = File::open("/dev/null").while_doing("open /dev/null")?;
    dup2_stdin(&null).while_doing("set the guest's input")?;
    dup2_stdout(&start.console).while_doing("set the guest's output")?;
    dup2_stderr(&start.console).while_doing("set the guest's output")?;
    // The guest kernel signals its process group when it panics.
    setsid().while_doing("make a session")?;
    // User-mode Linux would execute itself again to get rid of it.
    personality::set(Persona::ADDR_NO_RANDOMIZE).while_doing("fix the address layout")?;
    jail::limit(Limits {
        descriptors: Some(1024),
        processes: Some(32768),
    })?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).while_doing("bind the guest to its parent")?;
    let mut fds = [PollFd::new(lifeline.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::ZERO).while_doing("look after the parent")? != 0 {
        return Err(io::Error::other("the parent is gone")).while_doing("start the guest");
    }
    // Nothing but the standard descriptors and these reaches the guest's program.
    super::fds::close_others_on_exec().while_doing("close descriptors")?;
    for descriptor in start.descriptors {
        let inherit = FcntlArg::F_SETFD(FdFlag::empty());
        fcntl(descriptor, inherit).while_doing("pass a descriptor on")?;
    }
    jail::confine(start.role)?;
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    let GuestProgram {
        arguments,
        environment,
    } = start.program;
    let fd = start.executable.as_fd();
    nix::unistd::execveat(fd, c"", arguments, environment, flags)
        .while_doing("execute the guest kernel (it must be readable and executable by everyone)")
}
