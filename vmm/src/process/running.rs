//! A guest that runs: a process, or threads of this one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::console::Console;
use super::cpus::Cpus;
use super::{Failure, While, fds, stop};
use crate::StopReason;

/// What runs the guest.
#[derive(Debug)]
pub(super) enum Guest {
    /// A child process, and a descriptor that tells when it ends.
    Process(Pid, OwnedFd),
    /// Threads of this process.
    Cpus(Cpus),
}

impl Guest {
    /// A guest that is a child process.
    pub(super) fn of_process(pid: Pid) -> Result<Self, Failure> {
        let end = fds::pidfd(pid).while_doing("watch the guest's process")?;
        Ok(Self::Process(pid, end))
    }

    /// Becomes readable when the guest has ended.
    pub(super) fn end_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Process(_, end) => end.as_fd(),
            Self::Cpus(cpus) => cpus.end_fd(),
        }
    }

    /// Let it run, if it does not yet: this process is in its jail now.
    pub(super) fn begin(&self) {
        match self {
            Self::Process(..) => {}
            Self::Cpus(cpus) => cpus.begin(),
        }
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self, console: &mut Console) -> Result<Option<StopReason>, Failure> {
        match self {
            Self::Process(pid, _) => {
                let status = waitpid(*pid, Some(WaitPidFlag::WNOHANG))
                    .while_doing("wait for the guest's process")?;
                if status == WaitStatus::StillAlive {
                    return Ok(None);
                }
                console.drain();
                Ok(Some(stop::reason(status, &console.tail())))
            }
            Self::Cpus(cpus) => {
                let end = cpus.end();
                console.drain();
                Ok(end.map(|end| stop::of_cpus(end, &console.tail())))
            }
        }
    }

    /// End a guest that has said that it is done.
    pub(super) fn finish(&self, console: &mut Console) -> Result<StopReason, Failure> {
        match self {
            Self::Process(pid, _) => {
                nix::sys::signal::kill(*pid, Signal::SIGKILL).while_doing("end the guest")?;
                waitpid(*pid, None).while_doing("wait for the guest's process")?;
                console.drain();
                let status = WaitStatus::Exited(*pid, 0);
                Ok(stop::reason(status, &console.tail()))
            }
            // The threads end with this process.
            Self::Cpus(_) => {
                console.drain();
                Ok(stop::of_cpus(crate::kvm::End::PowerOff, &console.tail()))
            }
        }
    }
}
