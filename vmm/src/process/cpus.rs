//! The threads that run a guest's CPUs.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use super::{Failure, While};
use crate::eventfd;
use crate::jail::{self, Role};
use crate::kvm::{Assembled, End, Kept, Vcpu};

/// The stack of a CPU's thread: it runs little besides the guest.
const CPU_STACK: usize = 256 << 10;

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
    _kept: Kept,
}

impl Cpus {
    /// Make the threads, each in its own part of the jail. They wait for [`Cpus::begin`].
    pub(super) fn spawn(machine: Assembled) -> Result<Self, Failure> {
        let (cpus, kept) = machine.into_cpus();
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
                .spawn(move || end.set(run(cpu, &gate)))
                .while_doing("make a CPU's thread")?;
        }
        Ok(Self {
            gate,
            end,
            _kept: kept,
        })
    }

    /// Let them run: this process is in its jail now.
    pub(super) fn begin(&self) {
        self.gate.wait();
    }

    /// Becomes readable when one has come to an end.
    pub(super) fn end_fd(&self) -> BorrowedFd<'_> {
        self.end.event.as_fd()
    }

    /// How the guest ended, if it has.
    pub(super) fn end(&self) -> Option<End> {
        self.end.first()
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
