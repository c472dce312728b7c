//! aarch64: a kernel entered as an Image with a device tree, the host's generic interrupt
//! controller (GIC) in one of its two versions, PSCI for switching CPUs on and off.

mod boot;
mod cpu;
mod gic;
pub(super) mod probe;
mod tree;

pub(super) use gic::Interrupts;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::{Asking, DeviceSlot, KvmError, Software};
use crate::devices::Memory;
use crate::transport::mmio::PAGE;

/// Where the registers of a UART are, below everything else.
const UART: u64 = 0x0900_0000;
/// Where devices begin.
pub(super) const DEVICES: u64 = 0x0a00_0000;
/// Where memory begins.
const MEMORY: u64 = 0x4000_0000;

/// The bits of a physical address that every guest can have, where the host has so many.
const ADDRESS_BITS: u32 = 40;

/// Make a machine. Some hosts' CPUs have fewer bits for a guest's addresses than KVM assumes.
pub(super) fn create(kvm: &Kvm) -> Result<VmFd, KvmError> {
    let bits = address_bits(kvm).unwrap_or(ADDRESS_BITS);
    let vm = if bits < ADDRESS_BITS {
        kvm.create_vm_with_ipa_size(bits)
    } else {
        kvm.create_vm()
    };
    vm.to("make a machine")
}

/// The most bits of a guest's physical address, where the host says so.
fn address_bits(kvm: &Kvm) -> Option<u32> {
    u32::try_from(kvm.get_host_ipa_limit())
        .ok()
        .filter(|bits| *bits > 0)
}

/// Where memory of this size lies: start and length of each part.
pub(super) fn memory_ranges(size: u64) -> Vec<(u64, u64)> {
    vec![(MEMORY, size)]
}

/// Make CPUs and the interrupt controller, which must know of all of them.
pub(super) fn make_cpus(vm: &VmFd, count: u32) -> Result<(Vec<VcpuFd>, Interrupts), KvmError> {
    let cpus = (0..count)
        .map(|index| cpu::make(vm, index))
        .collect::<Result<Vec<_>, _>>()?;
    let interrupts = gic::make(vm, count)?;
    Ok((cpus, interrupts))
}

/// The place of a device.
pub(super) fn slot(index: usize) -> DeviceSlot {
    DeviceSlot {
        address: DEVICES + index as u64 * PAGE,
        line: index as u32,
    }
}

/// A register of the UART among device registers.
pub(super) fn mmio_uart(address: u64) -> Option<u64> {
    let register = address.checked_sub(UART)?;
    super::Bus::is_uart(register).then_some(register)
}

/// The machine, on the kernel's command line. The rest is in the device tree.
pub(super) fn arguments(_slots: &[DeviceSlot]) -> String {
    format!(
        // A console that only speaks, from the first to the last word, without a driver.
        "earlycon=uart8250,mmio,{UART:#x} keep_bootcon 8250.nr_uarts=0 \
         panic=-1 rdinit=/init"
    )
}

/// What is known when the CPUs have been made.
pub(super) struct Machine<'a> {
    pub(super) memory: &'a Memory,
    pub(super) memory_mib: u32,
}

impl Machine<'_> {
    /// Fill memory and CPUs.
    pub(super) fn finish(
        &self,
        _kvm: &Kvm,
        cpus: &mut [VcpuFd],
        interrupts: Interrupts,
        slots: &[DeviceSlot],
        software: &Software<'_>,
    ) -> Result<(), KvmError> {
        let affinities = cpus
            .iter()
            .map(cpu::affinity)
            .collect::<Result<Vec<_>, _>>()?;
        let description = tree::Description {
            memory: (MEMORY, u64::from(self.memory_mib) << 20),
            cpus: &affinities,
            controller: interrupts.controller(),
            slots,
            arguments: software.arguments,
        };
        let start = boot::load(self.memory, self.memory_mib, software, description)?;
        cpus.first().map_or(Ok(()), |cpu| {
            cpu::enter_kernel(cpu, start.entry, start.tree)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_a_page_and_a_line_of_its_own() {
        for index in 0..super::super::MAX_DEVICES {
            let slot = slot(index);
            assert!(slot.line < gic::LINES);
            assert!(slot.address + PAGE <= MEMORY);
        }
        assert_eq!(mmio_uart(UART + 5), Some(5));
        assert_eq!(mmio_uart(UART + 8), None);
        assert_eq!(mmio_uart(0), None);
    }
}
