//! The table that tells a kernel without ACPI about CPUs and the interrupt controller: Intel
//! MultiProcessor Specification 1.4.

use vm_memory::{Bytes, GuestAddress};

use super::super::KvmError;
use super::LINES;
use super::boot::{BASE_MEMORY_END, description};
use crate::devices::Memory;

const LOCAL_APIC: u32 = 0xfee0_0000;
const IO_APIC: u32 = 0xfec0_0000;
const APIC_VERSION: u8 = 0x14;
/// Revision 1.4.
const REVISION: u8 = 4;

/// Entry types.
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC_ENTRY: u8 = 2;
const INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

/// Kinds of interrupts.
const VECTORED: u8 = 0;
const NON_MASKABLE: u8 = 1;
const EXTERNAL: u8 = 3;

/// Put it where kernels look for it.
pub(super) fn write(memory: &Memory, cpus: u8) -> Result<(), KvmError> {
    let place = BASE_MEMORY_END as u32;
    memory
        .write_slice(&table(place, cpus), GuestAddress(place.into()))
        .map_err(description)
}

/// The pointer and, right behind it, the table: to be put at `place`.
fn table(place: u32, cpus: u8) -> Vec<u8> {
    let mut entries = Vec::new();
    for cpu in 0..cpus {
        // Enabled, and the first one starts the others.
        let flags = 1 | u8::from(cpu == 0) << 1;
        let mut entry = vec![PROCESSOR, cpu, APIC_VERSION, flags];
        // Signature, features (FPU and APIC), reserved.
        for word in [0x600u32, 0x201, 0, 0] {
            entry.extend(word.to_le_bytes());
        }
        entries.push(entry);
    }
    let mut bus = vec![BUS, 0];
    bus.extend(b"ISA   ");
    entries.push(bus);
    let mut controller = vec![IO_APIC_ENTRY, cpus, 0x11, 1];
    controller.extend(IO_APIC.to_le_bytes());
    entries.push(controller);
    for line in 0..LINES as u8 {
        entries.push(vec![INTERRUPT, VECTORED, 0, 0, 0, line, cpus, line]);
    }
    entries.push(vec![LOCAL_INTERRUPT, EXTERNAL, 0, 0, 0, 0, 0, 0]);
    entries.push(vec![LOCAL_INTERRUPT, NON_MASKABLE, 0, 0, 0, 0, 0xff, 1]);

    let count = entries.len() as u16;
    let body: Vec<u8> = entries.concat();
    let mut header = b"PCMP".to_vec();
    header.extend((44 + body.len() as u16).to_le_bytes());
    header.extend([REVISION, 0]);
    header.extend(b"HULL    MICROVM     ");
    header.extend(0u32.to_le_bytes());
    header.extend(0u16.to_le_bytes());
    header.extend(count.to_le_bytes());
    header.extend(LOCAL_APIC.to_le_bytes());
    header.extend(0u32.to_le_bytes());
    header.extend(body);
    set_checksum(&mut header, 7);

    let mut pointer = b"_MP_".to_vec();
    pointer.extend((place + 16).to_le_bytes());
    pointer.extend([1, REVISION, 0, 0, 0, 0, 0, 0]);
    set_checksum(&mut pointer, 10);
    pointer.extend(header);
    pointer
}

fn set_checksum(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(byte) = bytes.get_mut(at) {
        *byte = sum.wrapping_neg();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn both_parts_add_up_to_zero_and_end_where_they_say() {
        for cpus in [1, 2, 64] {
            let bytes = table(0x9_fc00, cpus);
            let (pointer, table) = bytes.split_at(16);
            assert_eq!(sum(pointer), 0);
            assert_eq!(sum(table), 0);
            let length = u16::from_le_bytes([table[4], table[5]]);
            assert_eq!(usize::from(length), table.len());
            let mut entries = 0;
            let mut rest = &table[44..];
            while let Some(kind) = rest.first() {
                rest = &rest[if *kind == PROCESSOR { 20 } else { 8 }..];
                entries += 1;
            }
            assert_eq!(entries, u16::from_le_bytes([table[34], table[35]]));
        }
    }
}
