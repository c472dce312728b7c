//! A guest of a few instructions that does what kernels do all the time, and then says so.

use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress};

use super::super::{KvmError, Vm};
use super::boot::write_page_tables;
use super::{cpu, cpuid, make_cpus};

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

/// The leaf of the CPU's description that has the width of addresses.
const ADDRESS_WIDTH: u32 = 0x8000_0008;

/// What a guest needs to run, and what there is of it, in words.
pub(in super::super) fn prepare(vm: &Vm) -> Result<(VcpuFd, String), KvmError> {
    let (cpus, _) = make_cpus(&vm.vm, 1)?;
    let guest = cpus.into_iter().next().ok_or(KvmError::TooManyCpus(0))?;
    let memory = &vm.memory.memory;
    write_page_tables(memory)?;
    for (bytes, at) in [(&PROGRAM[..], CODE), (&ANSWER[..], SYSTEM_CALL)] {
        memory
            .write_slice(bytes, GuestAddress(at))
            .map_err(|error| KvmError::Description(error.to_string()))?;
    }
    cpu::prepare(&guest, 0, 1, &cpuid::model(&vm.kvm)?)?;
    cpu::enter_kernel(&guest, GuestAddress(CODE))?;
    cpu::allow_system_calls(&guest, &[STAR, LSTAR, SFMASK])?;
    Ok((guest, width(&vm.kvm)))
}

fn width(kvm: &Kvm) -> String {
    let model = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).ok();
    let leaf = model.and_then(|model| {
        let mut leaves = model.as_slice().iter();
        leaves.find(|leaf| leaf.function == ADDRESS_WIDTH).copied()
    });
    let unknown = "physical addresses of an unknown width".to_owned();
    leaf.map_or(unknown, |leaf| {
        format!("{}-bit physical addresses", leaf.eax & 0xff)
    })
}

/// Whether this is the guest's word.
pub(in super::super) fn is_answer(exit: &VcpuExit<'_>) -> bool {
    matches!(exit, VcpuExit::IoOut(PORT, [WORD]))
}

/// Why no kernel of ours can run here, whatever works.
pub(in super::super) fn refusal(kvm: &Kvm) -> Option<String> {
    let list = kvm.get_msr_index_list().ok()?;
    list.as_slice()
        .contains(&PVM)
        .then(|| "this host's KVM is virt-pvm, which only runs kernels made for it".to_owned())
}
