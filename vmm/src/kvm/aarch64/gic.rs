//! The interrupt controller: the host's kernel emulates one whose version depends on the
//! host's own. Only one of the two can be had, so the newer one is tried first.

use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_V2_ADDR_TYPE_CPU, KVM_VGIC_V2_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::super::{Asking, KvmError};
use super::tree::Controller;

/// Where the part that all CPUs share is.
const DISTRIBUTOR: u64 = 0x0800_0000;
/// Where the parts of the CPUs begin: below the UART for as many CPUs as a machine can have.
const CPUS: u64 = 0x0802_0000;

/// How many lines devices can have: one for each that a machine can have.
pub(super) const LINES: u32 = super::super::MAX_DEVICES as u32;
/// Interrupts of CPUs themselves, which come before the devices'.
const PRIVATE: u32 = 32;

/// The most CPUs that the older controller can serve.
const V2_CPUS: u32 = 8;

/// An interrupt controller that is ready.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Interrupts {
    version: u8,
    cpus: u32,
}

impl Interrupts {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self.version {
            3 => "GICv3",
            _ => "GICv2",
        }
    }

    /// How a kernel finds it.
    pub(super) fn controller(self) -> Controller {
        let cpus = u64::from(self.cpus);
        match self.version {
            3 => Controller {
                compatible: "arm,gic-v3",
                distributor: (DISTRIBUTOR, 0x1_0000),
                cpus: (CPUS, cpus * 0x2_0000),
                private_mask: 0,
            },
            _ => Controller {
                compatible: "arm,cortex-a15-gic",
                distributor: (DISTRIBUTOR, 0x1000),
                cpus: (CPUS, 0x2000),
                // A private interrupt goes to each of these.
                private_mask: (1 << self.cpus.min(V2_CPUS)) - 1,
            },
        }
    }
}

/// Make it, once the CPUs are there.
pub(super) fn make(vm: &VmFd, cpus: u32) -> Result<Interrupts, KvmError> {
    let (version, device) = match create(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3) {
        Ok(device) => (3, device),
        Err(error) if error.errno() == libc::ENODEV => {
            if cpus > V2_CPUS {
                return Err(KvmError::TooManyCpus(V2_CPUS));
            }
            let device = create(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2);
            (2, device.to("make an interrupt controller")?)
        }
        Err(error) => return Err(error).to("make an interrupt controller"),
    };
    let places = match version {
        3 => [
            (KVM_VGIC_V3_ADDR_TYPE_DIST, DISTRIBUTOR),
            (KVM_VGIC_V3_ADDR_TYPE_REDIST, CPUS),
        ],
        _ => [
            (KVM_VGIC_V2_ADDR_TYPE_DIST, DISTRIBUTOR),
            (KVM_VGIC_V2_ADDR_TYPE_CPU, CPUS),
        ],
    };
    for (part, address) in places {
        set(&device, KVM_DEV_ARM_VGIC_GRP_ADDR, part, &address)
            .to("place the interrupt controller")?;
    }
    set(&device, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &(PRIVATE + LINES))
        .to("set the number of interrupts")?;
    set(
        &device,
        KVM_DEV_ARM_VGIC_GRP_CTRL,
        KVM_DEV_ARM_VGIC_CTRL_INIT,
        &0u64,
    )
    .to("start the interrupt controller")?;
    Ok(Interrupts { version, cpus })
}

fn create(vm: &VmFd, kind: u32) -> Result<DeviceFd, kvm_ioctls::Error> {
    vm.create_device(&mut kvm_create_device {
        type_: kind,
        fd: 0,
        flags: 0,
    })
}

/// Set an attribute from a value that KVM reads during the call.
fn set<T>(device: &DeviceFd, group: u32, attr: u32, value: &T) -> Result<(), kvm_ioctls::Error> {
    device.set_device_attr(&kvm_device_attr {
        group,
        attr: attr.into(),
        addr: std::ptr::from_ref(value) as u64,
        flags: 0,
    })
}
