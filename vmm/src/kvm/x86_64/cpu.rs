//! The state that a CPU begins in.

use kvm_bindings::{CpuId, Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vm_memory::GuestAddress;

use super::super::{Asking, KvmError};
use super::boot::{BOOT_PARAMETERS, PAGE_TABLES, STACK};
use super::cpuid;

/// Model-specific registers: string instructions are fast; memory is cached by default.
const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
const MTRR_DEFAULT: (u32, u64) = (0x2ff, 1 << 11 | 6);

const CR0_PROTECTION: u64 = 1;
const CR0_EXTENSION: u64 = 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_WIDE_ADDRESSES: u64 = 1 << 5;
/// Enabled and active.
const EFER_LONG: u64 = 1 << 8 | 1 << 10;

const EFER_SYSTEM_CALL: u64 = 1;

/// Selectors of the boot protocol.
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;

/// The local interrupt controller's lines, and what a PC connects them to.
const LINT0: usize = 0x350;
const LINT1: usize = 0x360;
const EXTERNAL: u32 = 7;
const NON_MASKABLE: u32 = 4;

/// What every CPU needs.
pub(super) fn prepare(cpu: &VcpuFd, index: u32, cpus: u32, model: &CpuId) -> Result<(), KvmError> {
    let own = cpuid::of_cpu(model, index, cpus)?;
    cpu.set_cpuid2(&own).to("set a CPU's features")?;
    // A host without one of them has that one's effect anyway.
    set_model_registers(cpu, &[MISC_ENABLE, MTRR_DEFAULT])?;
    let fpu = kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..Default::default()
    };
    cpu.set_fpu(&fpu).to("set a CPU's registers")?;
    let mut apic = cpu.get_lapic().to("read a CPU's interrupt lines")?;
    for (at, mode) in [(LINT0, EXTERNAL), (LINT1, NON_MASKABLE)] {
        if let Some(bytes) = apic.regs.get_mut(at..at + 4) {
            let value = mode << 8;
            for (to, from) in bytes.iter_mut().zip(value.to_le_bytes()) {
                *to = from as _;
            }
        }
    }
    cpu.set_lapic(&apic).to("set a CPU's interrupt lines")
}

/// Let the first CPU begin in the kernel, in 64-bit mode. The kernel starts the others.
pub(super) fn enter_kernel(cpu: &VcpuFd, entry: GuestAddress) -> Result<(), KvmError> {
    let mut special = cpu.get_sregs().to("read a CPU's registers")?;
    let data = segment(DATA, 3);
    special.cs = segment(CODE, 0xb);
    special.cs.l = 1;
    special.cs.db = 0;
    special.ds = data;
    special.es = data;
    special.fs = data;
    special.gs = data;
    special.ss = data;
    special.tr = segment(TASK, 0xb);
    special.tr.s = 0;
    special.tr.db = 0;
    special.cr3 = PAGE_TABLES;
    special.cr4 |= CR4_WIDE_ADDRESSES;
    special.cr0 = CR0_PROTECTION | CR0_EXTENSION | CR0_PAGING;
    special.efer |= EFER_LONG;
    cpu.set_sregs(&special).to("set a CPU's registers")?;
    let registers = kvm_regs {
        // The one bit that is always set.
        rflags: 2,
        rip: entry.0,
        rsp: STACK,
        rsi: BOOT_PARAMETERS,
        ..Default::default()
    };
    cpu.set_regs(&registers).to("set a CPU's registers")
}

/// Let a CPU in 64-bit mode make system calls, to where these registers say.
pub(super) fn allow_system_calls(cpu: &VcpuFd, registers: &[(u32, u64)]) -> Result<(), KvmError> {
    set_model_registers(cpu, registers)?;
    let mut special = cpu.get_sregs().to("read a CPU's registers")?;
    special.efer |= EFER_SYSTEM_CALL;
    cpu.set_sregs(&special).to("set a CPU's registers")
}

fn set_model_registers(cpu: &VcpuFd, registers: &[(u32, u64)]) -> Result<(), KvmError> {
    let entries: Vec<_> = registers
        .iter()
        .map(|&(index, data)| kvm_msr_entry {
            index,
            data,
            ..Default::default()
        })
        .collect();
    let registers = Msrs::from_entries(&entries)
        .map_err(|error| KvmError::Description(format!("model-specific registers: {error:?}")))?;
    cpu.set_msrs(&registers)
        .to("set a CPU's registers")
        .map(drop)
}

/// A segment of all memory.
fn segment(selector: u16, kind: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: kind,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        l: 0,
        g: 1,
        ..Default::default()
    }
}
