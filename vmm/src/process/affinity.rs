//! Keeping the processes of a machine on one CPU.
//!
//! A guest of user-mode Linux with one CPU, its kernel and its devices hand over to each other
//! all the time. On one CPU that is a switch; between two it is a CPU that has to be woken,
//! which takes ten times as long on a virtual one.

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use super::{Failure, While};

/// What is being done when it fails.
const CHOOSING: &str = "choose a CPU";

/// Keep this process and its children on the CPU that it is on: the host's scheduler has just
/// found it for them. Returns its number.
pub(super) fn stay() -> Result<usize, Failure> {
    let cpu = sched_getcpu().while_doing(CHOOSING)?;
    go_to(cpu)?;
    Ok(cpu)
}

/// Keep this process on a CPU.
pub(super) fn go_to(cpu: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(cpu).while_doing(CHOOSING)?;
    sched_setaffinity(Pid::from_raw(0), &set).while_doing(CHOOSING)
}
