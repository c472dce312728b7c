//! A guest of a few instructions.

use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress};

use super::super::{KvmError, Vm};
use super::{MEMORY, UART, address_bits, cpu, make_cpus};

/// Where the table of handlers is, and the one for a call from kernel mode to itself.
const VECTORS: u64 = MEMORY + 0x800;
const CALL: u64 = VECTORS + 0x200;

/// What the guest says, to a register where its kernel would have a UART.
const WORD: u32 = 0x5a;

/// Set the table of handlers up, count to a million, and call. The table's address comes in the
/// first register.
const PROGRAM: [u32; 7] = [
    0xd518_c000, // msr vbar_el1, x0
    0xd503_3fdf, // isb
    0x5288_4801, // mov w1, #0x4240
    0x72a0_01e1, // movk w1, #0xf, lsl #16
    0x7100_0421, // subs w1, w1, #1
    0x54ff_ffe1, // b.ne to the line before
    0xd400_0001, // svc #0
];

/// Say the word, and stop.
const ANSWER: [u32; 5] = [
    0xd2a1_2002, // mov x2, #0x9000000
    0x5280_0b43, // mov w3, #WORD
    0xb900_0043, // str w3, [x2]
    0xd503_207f, // wfi
    0x17ff_ffff, // b to the line before
];

/// What a guest needs to run, and what there is of it, in words.
pub(in super::super) fn prepare(vm: &Vm) -> Result<(VcpuFd, String), KvmError> {
    let (cpus, interrupts) = make_cpus(&vm.vm, 1)?;
    let memory = &vm.memory.memory;
    for (words, at) in [(&PROGRAM[..], MEMORY), (&ANSWER[..], CALL)] {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        memory
            .write_slice(&bytes, GuestAddress(at))
            .map_err(|error| KvmError::Description(error.to_string()))?;
    }
    let cpu = cpus.into_iter().next().ok_or(KvmError::TooManyCpus(0))?;
    cpu::enter_kernel(&cpu, GuestAddress(MEMORY), GuestAddress(VECTORS))?;
    let mut found = interrupts.name().to_owned();
    if let Some(bits) = address_bits(&vm.kvm) {
        found.push_str(&format!(", {bits}-bit guest addresses"));
    }
    Ok((cpu, found))
}

/// Whether this is the guest's word.
pub(in super::super) fn is_answer(exit: &VcpuExit<'_>) -> bool {
    matches!(exit, VcpuExit::MmioWrite(UART, word) if **word == WORD.to_le_bytes())
}

/// Why no kernel of ours can run here, whatever works.
pub(in super::super) fn refusal(_kvm: &Kvm) -> Option<String> {
    None
}
