//! A guest that runs: a process, or threads of this one.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::console::Console;
use super::{Failure, While, fds, stop};
use crate::jail::{self, Role};
use crate::kvm::{Assembled, Counters, End, Kept, Vcpu};
use crate::{StopReason, eventfd};

/// The stack of a CPU's thread: it runs little besides the guest.
const CPU_STACK: usize = 256 << 10;

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
            Self::Cpus(cpus) => cpus.end.event.as_fd(),
        }
    }

    /// Let it run, if it does not yet: this process is in its jail now.
    pub(super) fn begin(&self) {
        if let Self::Cpus(cpus) = self {
            cpus.gate.wait();
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
                let end = cpus.end.first();
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
                Ok(stop::of_cpus(End::PowerOff, &console.tail()))
            }
        }
    }
}

/// The first end that a CPU came to.
#[derive(Debug)]
struct FirstEnd {
    end: Mutex<Option<End>>,
    event: File,
}

impl FirstEnd {
    fn first(&self) -> Option<End> {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.clone()
    }

    fn set(&self, end: End) {
        let mut first = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(end);
        // An eventfd has room for more than one number.
        let _ = std::io::Write::write(&mut &self.event, &1u64.to_ne_bytes());
    }
}

/// CPUs, each on a thread.
#[derive(Debug)]
pub(super) struct Cpus {
    gate: Arc<Barrier>,
    end: Arc<FirstEnd>,
    counters: Vec<Arc<Counters>>,
    _kept: Kept,
}

impl Cpus {
    /// Make the threads, each in its own part of the jail. They wait for [`Guest::begin`].
    pub(super) fn spawn(machine: Assembled) -> Result<Self, Failure> {
        let (cpus, counters, kept) = machine.into_cpus();
        let gate = Arc::new(Barrier::new(cpus.len() + 1));
        let end = Arc::new(FirstEnd {
            end: Mutex::default(),
            event: eventfd::new().while_doing("make an event")?,
        });
        for (index, cpu) in cpus.into_iter().enumerate() {
            let (gate, end) = (gate.clone(), end.clone());
            thread::Builder::new()
                .name(format!("cpu{index}"))
                .stack_size(CPU_STACK)
                .spawn(move || {
                    let how = catch_unwind(AssertUnwindSafe(|| run(cpu, &gate)));
                    let bug = || End::Failed("a CPU's thread has a bug".to_owned());
                    end.set(how.unwrap_or_else(|_| bug()));
                })
                .while_doing("make a CPU's thread")?;
        }
        Ok(Self {
            gate,
            end,
            counters,
            _kept: kept,
        })
    }

    /// What the CPUs have needed so far.
    pub(super) fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }
}

fn run(cpu: Vcpu, gate: &Barrier) -> End {
    let confined = jail::confine(Role::Cpu);
    gate.wait();
    match confined {
        Ok(()) => cpu.run(),
        Err(error) => End::Failed(error.to_string()),
    }
}
