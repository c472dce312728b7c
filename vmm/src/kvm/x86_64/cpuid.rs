//! What CPUs say that they are.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

use super::super::{Asking, KvmError};

/// In leaf 1, ECX.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// In leaf 1, EDX: more than one logical processor.
const HYPER_THREADING: u32 = 1 << 28;

/// Levels of leaf 0xb: threads of a core, cores of a package.
const THREADS: u32 = 1 << 8;
const CORES: u32 = 2 << 8;

/// What the host can offer to every CPU.
pub(super) fn model(kvm: &Kvm) -> Result<CpuId, KvmError> {
    let mut model = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .to("say what CPUs it has")?;
    let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    for entry in model.as_mut_slice() {
        if entry.function == 1 {
            // KVM does not set this itself, and without it the guest does not look for KVM.
            entry.ecx |= HYPERVISOR | X2APIC;
            if deadline {
                entry.ecx |= TSC_DEADLINE;
            }
        }
    }
    Ok(model)
}

/// One of several CPUs of this model.
pub(super) fn of_cpu(model: &CpuId, index: u32, cpus: u32) -> Result<CpuId, KvmError> {
    let mut entries = model.as_slice().to_vec();
    // Leaves that depend on the CPU that asks are those of the CPU that KVM was asked on.
    entries.retain(|entry| !matches!(entry.function, 0xb | 0x1f));
    let shift = u32::BITS - (cpus - 1).leading_zeros();
    let has_topology = entries
        .iter()
        .any(|entry| entry.function == 0 && entry.eax >= 0xb);
    for entry in &mut entries {
        adjust(entry, index, cpus, shift);
    }
    if has_topology {
        entries.push(level(0, THREADS, (0, 1), index));
        entries.push(level(1, CORES, (shift, cpus), index));
    }
    CpuId::from_entries(&entries)
        .map_err(|error| KvmError::Description(format!("the CPU's features: {error:?}")))
}

fn adjust(entry: &mut kvm_cpuid_entry2, index: u32, cpus: u32, shift: u32) {
    match entry.function {
        1 => {
            entry.ebx = entry.ebx & 0xffff | cpus.min(255) << 16 | index << 24;
            entry.edx &= !HYPER_THREADING;
            if cpus > 1 {
                entry.edx |= HYPER_THREADING;
            }
        }
        // Intel's caches: the first two levels are a core's own, the third is everyone's.
        4 if entry.eax & 0x1f != 0 => {
            let shared = if entry.eax >> 5 & 7 >= 3 { cpus - 1 } else { 0 };
            entry.eax = entry.eax & 0x3fff | (cpus - 1).min(63) << 26 | shared << 14;
        }
        // AMD's topology: the number of cores, and the bits of a core's number.
        0x8000_0008 => entry.ecx = entry.ecx & !0xf0ff | shift << 12 | (cpus - 1),
        0x8000_001d if entry.eax & 0x1f != 0 => {
            let shared = if entry.eax >> 5 & 7 >= 3 { cpus - 1 } else { 0 };
            entry.eax = entry.eax & 0x3fff | shared << 14;
        }
        0x8000_001e => {
            entry.eax = index;
            entry.ebx = index & 0xff;
            entry.ecx = 0;
        }
        _ => {}
    }
}

fn level(number: u32, kind: u32, (shift, count): (u32, u32), index: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function: 0xb,
        index: number,
        flags: kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: kind | number,
        edx: index,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, eax: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            eax,
            ..Default::default()
        }
    }

    #[test]
    fn every_cpu_has_a_number_of_its_own_and_one_package() {
        let model = CpuId::from_entries(&[
            leaf(0, 0xd),
            leaf(1, 0),
            leaf(0xb, 9),
            leaf(0x8000_0008, 0),
            leaf(0x8000_001e, 0),
        ])
        .unwrap();
        for (cpus, shift) in [(1, 0), (2, 1), (3, 2), (4, 2), (64, 6)] {
            for index in [0, cpus - 1] {
                let cpu = of_cpu(&model, index, cpus).unwrap();
                let find = |function, sub| {
                    let mut all = cpu.as_slice().iter();
                    *all.find(|e| e.function == function && e.index == sub)
                        .unwrap()
                };
                assert_eq!(find(1, 0).ebx >> 24, index);
                assert_eq!(find(1, 0).edx & HYPER_THREADING != 0, cpus > 1);
                let cores = find(0xb, 1);
                assert_eq!((cores.eax, cores.ebx, cores.edx), (shift, cpus, index));
                assert_eq!(find(0xb, 0).ebx, 1);
                assert_eq!(find(0x8000_0008, 0).ecx, shift << 12 | (cpus - 1));
                assert_eq!(find(0x8000_001e, 0).eax, index);
            }
        }
    }
}
