//! Whether `/dev/kvm` runs code: a guest of a few instructions that does what kernels do all
//! the time, and then says so.
//!
//! There are hosts where machines and CPUs can be made and no kernel gets anywhere, because
//! privileged code is emulated, and not all of it.

use std::fs::File;
use std::os::fd::OwnedFd;

use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress};

use super::x86_64::{cpu, cpuid, page_tables};
use super::{Asking, KvmError, Parts, Vm, arch};

/// Where the guest's code is, and the part of it that a system call leads to.
const CODE: u64 = 0x1_0000;
const SYSTEM_CALL: u64 = CODE + 0x100;

/// What the guest says, and on which port.
const WORD: u8 = 0x5a;
const PORT: u16 = 0xf4;

/// An instruction that emulators of privileged code tend to lack, a million turns of a loop,
/// which take a millisecond on hardware and more than a second in an emulator, and a system
/// call.
const PROGRAM: [u8; 12] = [
    0x9b, // fwait
    0xb9, 0x40, 0x42, 0x0f, 0x00, // mov ecx, 1000000
    0xff, 0xc9, // dec ecx
    0x75, 0xfc, // jnz to the line before
    0x0f, 0x05, // syscall
];

/// Say the word, and stop.
const ANSWER: [u8; 5] = [
    0xb0, WORD, // mov al, WORD
    0xe6, PORT as u8, // out PORT, al
    0xf4,       // hlt
];

/// Registers that a system call needs, with values: selectors, target, mask.
const STAR: (u32, u64) = (0xc000_0081, 0x10 << 32);
const LSTAR: (u32, u64) = (0xc000_0082, SYSTEM_CALL);
const SFMASK: (u32, u64) = (0xc000_0084, 0);

/// With this register a host says that it runs only kernels that know of it.
const PVM: u32 = 0x4b56_4df1;

/// Run the guest; what was found, in one sentence without a full stop, either way. It may
/// take for ever: call it in a process that can be killed.
pub(crate) fn run(kvm: File) -> Result<String, String> {
    let failed = |error: KvmError| error.to_string();
    let vm = Vm::new(Parts {
        kvm: OwnedFd::from(kvm),
        memory_mib: 1,
        cpus: 1,
    })
    .map_err(failed)?;
    if vm
        .kvm
        .get_msr_index_list()
        .is_ok_and(|list| list.as_slice().contains(&PVM))
    {
        return Err("this host's KVM is virt-pvm, which only runs kernels made for it".to_owned());
    }
    let mut guest = prepare(&vm).map_err(failed)?;
    speak(&mut guest)?;
    let width = vm
        .kvm
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .ok()
        .and_then(|model| {
            let mut leaves = model.as_slice().iter();
            leaves
                .find(|leaf| leaf.function == 0x8000_0008)
                .map(|leaf| leaf.eax & 0xff)
        });
    let width = width.map(|bits| format!(", {bits}-bit physical addresses"));
    Ok(format!(
        "a guest ran code and made a system call{}",
        width.unwrap_or_default()
    ))
}

fn prepare(vm: &Vm) -> Result<VcpuFd, KvmError> {
    arch::make_interrupt_controller(&vm.vm)?;
    let guest = vm.vm.create_vcpu(0).to("make a CPU")?;
    let memory = &vm.memory.memory;
    page_tables(memory)?;
    for (bytes, at) in [(&PROGRAM[..], CODE), (&ANSWER[..], SYSTEM_CALL)] {
        memory
            .write_slice(bytes, GuestAddress(at))
            .map_err(|error| KvmError::Description(error.to_string()))?;
    }
    cpu::prepare(&guest, 0, 1, &cpuid::model(&vm.kvm)?)?;
    cpu::enter_kernel(&guest, GuestAddress(CODE))?;
    cpu::allow_system_calls(&guest, &[STAR, LSTAR, SFMASK])?;
    Ok(guest)
}

/// Run the guest until it has said its word.
fn speak(guest: &mut VcpuFd) -> Result<(), String> {
    loop {
        let exit = match guest.run() {
            Ok(exit) => exit,
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => continue,
            Err(error) => return Err(format!("it cannot run a guest: {error}")),
        };
        return match exit {
            VcpuExit::IoOut(PORT, [WORD]) => Ok(()),
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
