//! The state that a CPU begins in.

use std::mem::offset_of;

use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_REG_ARM_CORE, KVM_REG_ARM64,
    KVM_REG_SIZE_U64, kvm_regs, kvm_vcpu_init, user_pt_regs,
};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::GuestAddress;

use super::super::{Asking, KvmError};

/// The processor's state at a kernel's first instruction: kernel mode with a stack of its own,
/// all interrupts off.
const KERNEL_STATE: u64 = 0x3c5;

/// The register that tells CPUs apart (MPIDR_EL1), and the parts of it that do.
const MPIDR: u64 = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | 0x13_c005;
const AFFINITY: u64 = 0xff_00ff_ffff;

/// Make a CPU. The first one runs at once, the kernel switches on the others.
pub(super) fn make(vm: &VmFd, index: u32) -> Result<VcpuFd, KvmError> {
    let cpu = vm.create_vcpu(index.into()).to("make a CPU")?;
    let mut model = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut model)
        .to("say what CPUs it has")?;
    // Switching CPUs and the machine on and off.
    let mut features = 1 << KVM_ARM_VCPU_PSCI_0_2;
    if index > 0 {
        features |= 1 << KVM_ARM_VCPU_POWER_OFF;
    }
    if let Some(first) = model.features.first_mut() {
        *first |= features;
    }
    cpu.vcpu_init(&model).to("set a CPU's features")?;
    Ok(cpu)
}

/// What tells this CPU apart from others.
pub(super) fn affinity(cpu: &VcpuFd) -> Result<u64, KvmError> {
    let mut bytes = [0; 8];
    cpu.get_one_reg(MPIDR, &mut bytes)
        .to("read a CPU's registers")?;
    Ok(u64::from_le_bytes(bytes) & AFFINITY)
}

/// Let a CPU begin at an address in kernel mode, with an address in its first register.
pub(super) fn enter_kernel(
    cpu: &VcpuFd,
    entry: GuestAddress,
    argument: GuestAddress,
) -> Result<(), KvmError> {
    let values = [
        (offset_of!(user_pt_regs, pstate), KERNEL_STATE),
        (offset_of!(user_pt_regs, pc), entry.0),
        (offset_of!(user_pt_regs, regs), argument.0),
    ];
    for (offset, value) in values {
        let register = core_register(offset_of!(kvm_regs, regs) + offset);
        cpu.set_one_reg(register, &value.to_le_bytes())
            .to("set a CPU's registers")?;
    }
    Ok(())
}

/// KVM's number of a register at this place in the description of them all.
fn core_register(offset: usize) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | u64::from(KVM_REG_ARM_CORE) | offset as u64 / 4
}
