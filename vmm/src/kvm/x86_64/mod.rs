//! x86-64: a kernel entered in 64-bit mode, with an interrupt controller in the host's
//! kernel and nothing else of a PC.

mod boot;
mod cpu;
mod cpuid;
mod mptable;
pub(super) mod probe;

use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::{Asking, DeviceSlot, KvmError, Software};
use crate::devices::Memory;
use crate::transport::mmio::PAGE;

/// The end of memory below 4 GiB; devices and the interrupt controllers lie above it.
const LOW_MEMORY_END: u64 = 0xc000_0000;
/// Where memory goes on.
const HIGH_MEMORY: u64 = 1 << 32;
/// Where devices begin.
pub(super) const DEVICES: u64 = 0xd000_0000;

/// Lines of the interrupt controller that devices use: the lower ones belong, on a PC, to
/// devices that the kernel looks for by itself.
const FIRST_LINE: u32 = 5;
const LINES: u32 = 24;

/// Pages that KVM wants for itself on Intel CPUs, out of every other's way.
const IDENTITY_MAP: u64 = 0xfeff_c000;
const TASK_STATE: usize = 0xfeff_d000;

/// The port of the first serial line.
const UART: u16 = 0x3f8;

/// The keyboard controller's command port, and the command that resets the machine.
const RESET_PORT: u16 = 0x64;
const RESET: u8 = 0xfe;

/// Make a machine.
pub(super) fn create(kvm: &Kvm) -> Result<VmFd, KvmError> {
    kvm.create_vm().to("make a machine")
}

/// Where memory of this size lies: start and length of each part.
pub(super) fn memory_ranges(size: u64) -> Vec<(u64, u64)> {
    if size <= LOW_MEMORY_END {
        vec![(0, size)]
    } else {
        vec![(0, LOW_MEMORY_END), (HIGH_MEMORY, size - LOW_MEMORY_END)]
    }
}

/// The interrupt controllers, of which there is one kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interrupts;

/// Make the interrupt controllers and CPUs.
pub(super) fn make_cpus(vm: &VmFd, count: u32) -> Result<(Vec<VcpuFd>, Interrupts), KvmError> {
    vm.set_identity_map_address(IDENTITY_MAP)
        .to("place its page tables")?;
    vm.set_tss_address(TASK_STATE).to("place its task state")?;
    vm.create_irq_chip().to("make an interrupt controller")?;
    let cpus = (0..count)
        .map(|index| vm.create_vcpu(index.into()).to("make a CPU"))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((cpus, Interrupts))
}

/// The place of a device.
pub(super) fn slot(index: usize) -> DeviceSlot {
    DeviceSlot {
        address: DEVICES + index as u64 * PAGE,
        // With many devices some share a line.
        line: FIRST_LINE + index as u32 % (LINES - FIRST_LINE),
    }
}

/// A register of a UART among device registers: there is none.
pub(super) fn mmio_uart(_address: u64) -> Option<u64> {
    None
}

/// A register of the UART.
pub(super) fn port_uart(port: u16) -> Option<u64> {
    let register = u64::from(port.checked_sub(UART)?);
    super::Bus::is_uart(register).then_some(register)
}

/// What is read from a port that nothing is at. The keyboard controller's status is that it
/// waits for a command, so that the kernel gives it the one to reset at once.
pub(super) fn absent_port(port: u16) -> u8 {
    if port == RESET_PORT { 0 } else { 0xff }
}

/// Whether this write restarts the machine.
pub(super) fn is_reset(port: u16, data: &[u8]) -> bool {
    port == RESET_PORT && data == [RESET]
}

/// The machine, on the kernel's command line.
pub(super) fn arguments(slots: &[DeviceSlot]) -> String {
    let mut text = format!(
        // A console that only speaks, from the first to the last word, without a driver.
        "earlycon=uart8250,io,{UART:#x} keep_bootcon 8250.nr_uarts=0 \
         reboot=k panic=-1 no_timer_check lapic_timer_khz=1000000 \
         random.trust_cpu=on rdinit=/init"
    );
    for slot in slots {
        text.push_str(&format!(
            " virtio_mmio.device={PAGE:#x}@{:#x}:{}",
            slot.address, slot.line
        ));
    }
    text
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
        kvm: &Kvm,
        cpus: &mut [VcpuFd],
        _interrupts: Interrupts,
        _slots: &[DeviceSlot],
        software: &Software<'_>,
    ) -> Result<(), KvmError> {
        let entry = boot::load(self.memory, self.memory_mib, software)?;
        mptable::write(self.memory, cpus.len() as u8)?;
        let model = cpuid::model(kvm)?;
        for (index, cpu) in cpus.iter().enumerate() {
            cpu::prepare(cpu, index as u32, cpus.len() as u32, &model)?;
            if index == 0 {
                cpu::enter_kernel(cpu, entry)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_around_the_hole() {
        assert_eq!(memory_ranges(512 << 20), [(0, 512 << 20)]);
        assert_eq!(memory_ranges(3 << 30), [(0, 3 << 30)]);
        assert_eq!(memory_ranges(5 << 30), [(0, 3 << 30), (4 << 30, 2 << 30)]);
    }

    #[test]
    fn every_device_has_a_page_and_a_line_that_exists() {
        for index in 0..super::super::MAX_DEVICES {
            let slot = slot(index);
            assert!((FIRST_LINE..LINES).contains(&slot.line));
            // Below the interrupt controllers.
            assert!(slot.address + PAGE <= 0xfec0_0000);
        }
        assert!(arguments(&[slot(0)]).contains("=0x1000@0xd0000000:5"));
    }
}
