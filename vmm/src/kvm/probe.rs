//! Whether `/dev/kvm` runs code: a guest of a few instructions that does what kernels do all
//! the time, and then says so.
//!
//! There are hosts where machines and CPUs can be made and no kernel gets anywhere, because
//! privileged code is emulated, and not all of it.

use std::fs::File;
use std::os::fd::OwnedFd;

use kvm_ioctls::{VcpuExit, VcpuFd};

use super::arch::probe;
use super::{KvmError, Parts, Vm, memory};

/// The guest's memory.
const MEMORY_MIB: u64 = 1;

/// Run the guest; what was found, in one sentence without a full stop, either way. It may
/// take for ever: call it in a process that can be killed.
pub(crate) fn run(kvm: File) -> Result<String, String> {
    let failed = |error: KvmError| error.to_string();
    let memory = memory::ordinary(MEMORY_MIB << 20);
    let vm = Vm::new(Parts {
        kvm: OwnedFd::from(kvm),
        memory: memory.map_err(|error| format!("a guest's memory cannot be made: {error}"))?,
        memory_mib: MEMORY_MIB as u32,
        cpus: 1,
    })
    .map_err(failed)?;
    if let Some(why) = probe::refusal(&vm.kvm) {
        return Err(why);
    }
    let (mut guest, found) = probe::prepare(&vm).map_err(failed)?;
    speak(&mut guest)?;
    Ok(format!("a guest ran code and made a system call, {found}"))
}

/// Run the guest until it has said its word.
fn speak(guest: &mut VcpuFd) -> Result<(), String> {
    loop {
        let exit = match guest.run() {
            Ok(exit) => exit,
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => continue,
            Err(error) => return Err(format!("it cannot run a guest: {error}")),
        };
        if probe::is_answer(&exit) {
            return Ok(());
        }
        return match exit {
            VcpuExit::Intr => continue,
            VcpuExit::Shutdown => Err(
                "a guest's CPU gave up at an ordinary instruction: no kernel runs on it".to_owned(),
            ),
            other => Err(format!(
                "a guest stopped at an ordinary instruction ({other:?}): no kernel runs on it"
            )),
        };
    }
}
