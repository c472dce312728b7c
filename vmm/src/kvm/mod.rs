//! KVM: a machine whose CPUs are the host's, behind its hardware boundary.
//!
//! What a PC or an ARM board has besides CPUs, memory and an interrupt controller is not
//! there: no PCI, no firmware, no disk controller, no timer chip. The guest kernel is put
//! into memory and entered directly; devices are pages of registers
//! ([`crate::transport::mmio`]), and a port for the kernel's last words.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod bus;
mod memory;
pub(crate) mod probe;
// The device tree of ARM machines is tested everywhere.
#[cfg(all(test, not(target_arch = "aarch64")))]
#[path = "aarch64/tree.rs"]
mod tree;
mod vcpu;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, Kvm, VcpuFd, VmFd};

#[cfg(target_arch = "aarch64")]
use aarch64 as arch;
#[cfg(target_arch = "x86_64")]
use x86_64 as arch;

pub(crate) use bus::{Bus, DeviceSlot};
pub(crate) use vcpu::{End, Vcpu};

use crate::eventfd;
use crate::trace;
use crate::transport::mmio::{Mmio, SharedMemory, offset};

/// The most devices that a machine can have.
pub(crate) const MAX_DEVICES: usize = 256;

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KvmError {
    /// A request to KVM failed.
    #[error("KVM cannot {0}: {1}")]
    Request(&'static str, kvm_ioctls::Error),
    /// Guest memory could not be had.
    #[error("cannot make {0} MiB of guest memory: {1}")]
    Memory(u32, io::Error),
    /// The kernel is none for this kind of machine.
    #[error("cannot load the guest kernel: {0}")]
    Kernel(String),
    /// Kernel and initramfs do not fit.
    #[error(
        "the guest kernel and the agent do not fit into {0} MiB of memory: give it more with --memory"
    )]
    TooSmall(u32),
    /// Something that the guest reads at its start could not be written.
    #[error("cannot describe the machine to its kernel: {0}")]
    Description(String),
    /// A device's descriptors.
    #[error("cannot attach a device: {0}")]
    Device(#[from] io::Error),
    /// More devices than there is room for.
    #[error("the machine has more devices than its kernel can be told of: share fewer directories")]
    TooManyDevices,
    /// More CPUs than the host's interrupt controller serves.
    #[error("this host's KVM has machines of up to {0} CPUs: choose fewer with --cpus")]
    TooManyCpus(u32),
}

/// Name what was asked of KVM.
trait Asking<T> {
    fn to(self, what: &'static str) -> Result<T, KvmError>;
}

impl<T> Asking<T> for Result<T, kvm_ioctls::Error> {
    fn to(self, what: &'static str) -> Result<T, KvmError> {
        self.map_err(|error| KvmError::Request(what, error))
    }
}

/// What a machine is made from.
#[derive(Debug)]
pub(crate) struct Parts {
    /// `/dev/kvm`.
    pub(crate) kvm: OwnedFd,
    /// A file of the memory's size, which the guest's memory will lie in.
    pub(crate) memory: File,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
}

/// What it runs.
#[derive(Debug)]
pub(crate) struct Software<'a> {
    pub(crate) kernel: &'a File,
    pub(crate) initramfs: &'a File,
    /// The kernel's command line.
    pub(crate) arguments: &'a str,
}

/// A virtual machine that has memory and no CPUs yet.
#[derive(Debug)]
pub(crate) struct Vm {
    kvm: Kvm,
    vm: VmFd,
    memory: SharedMemory,
    memory_mib: u32,
    cpus: u32,
}

impl Vm {
    /// Make it, in the process that will run it.
    pub(crate) fn new(parts: Parts) -> Result<Self, KvmError> {
        // SAFETY: the descriptor is this call's own; if it is no KVM, every request fails.
        let kvm = unsafe { Kvm::from_raw_fd(parts.kvm.into_raw_fd()) };
        let vm = arch::create(&kvm)?;
        let ranges = arch::memory_ranges(u64::from(parts.memory_mib) << 20);
        let memory = memory::create(parts.memory, &ranges)
            .map_err(|error| KvmError::Memory(parts.memory_mib, error))?;
        memory::attach(&vm, &memory.memory)?;
        Ok(Self {
            kvm,
            vm,
            memory,
            memory_mib: parts.memory_mib,
            cpus: parts.cpus,
        })
    }

    /// The guest's memory.
    pub(crate) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// Put devices at their places, load the kernel, and make the CPUs.
    pub(crate) fn assemble(
        self,
        devices: Vec<Arc<Mmio>>,
        software: &Software<'_>,
        console: File,
    ) -> Result<Assembled, KvmError> {
        if devices.len() > MAX_DEVICES {
            return Err(KvmError::TooManyDevices);
        }
        let step = |what: &str| {
            if let Some(tracer) = trace::get() {
                tracer.step(what);
            }
        };
        let (mut cpus, interrupts) = arch::make_cpus(&self.vm, self.cpus)?;
        step("CPUs are made");
        let slots: Vec<DeviceSlot> = (0..devices.len()).map(arch::slot).collect();
        let machine = arch::Machine {
            memory: &self.memory.memory,
            memory_mib: self.memory_mib,
        };
        machine.finish(&self.kvm, &mut cpus, interrupts, &slots, software)?;
        step("the kernel is loaded");
        for (device, slot) in devices.iter().zip(&slots) {
            self.attach(device, *slot)?;
        }
        let bus = Arc::new(Bus::new(arch::DEVICES, devices, console));
        Ok(Assembled {
            vm: self.vm,
            memory: self.memory,
            cpus,
            bus,
        })
    }

    /// Let notifications and interrupts of a device pass without stopping a CPU.
    fn attach(&self, device: &Mmio, slot: DeviceSlot) -> Result<(), KvmError> {
        let address = IoEventAddress::Mmio(slot.address + offset::QUEUE_NOTIFY);
        for (queue, kick) in device.kicks().iter().enumerate() {
            let event = eventfd::foreign(kick.as_fd())?;
            self.vm
                .register_ioevent(&event, &address, queue as u32)
                .to("watch a device's notifications")?;
        }
        let event = eventfd::foreign(device.line().event())?;
        self.vm
            .register_irqfd(&event, slot.line)
            .to("connect a device's interrupt")
    }
}

/// A machine that only has to be run.
#[derive(Debug)]
pub(crate) struct Assembled {
    vm: VmFd,
    memory: SharedMemory,
    cpus: Vec<VcpuFd>,
    bus: Arc<Bus>,
}

impl Assembled {
    /// The CPUs, each for a thread of its own, and what must live as long as they run.
    pub(crate) fn into_cpus(self) -> (Vec<Vcpu>, Kept) {
        let cpus = self.cpus.into_iter();
        let kept = Kept {
            _vm: self.vm,
            _memory: self.memory,
        };
        (
            cpus.map(|fd| Vcpu::new(fd, self.bus.clone())).collect(),
            kept,
        )
    }
}

/// What a running machine needs besides its CPUs.
#[derive(Debug)]
pub(crate) struct Kept {
    _vm: VmFd,
    _memory: SharedMemory,
}

/// The words of the kernel's command line that the machine is described with.
pub(crate) fn arguments(devices: usize) -> String {
    let slots: Vec<DeviceSlot> = (0..devices).map(arch::slot).collect();
    arch::arguments(&slots)
}
