//! The kernel in memory, and what it reads about the machine: Linux's 64-bit boot protocol.

use std::fs::File;
use std::io::Seek;

use linux_loader::loader::KernelLoader;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use linux_loader::loader::elf::Elf;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryRegion};

use super::super::{KvmError, Software};
use super::{HIGH_MEMORY, LOW_MEMORY_END};
use crate::devices::Memory;
use crate::trace;

/// Places in the first megabyte, which the kernel leaves alone until it has read them.
pub(super) const BOOT_PARAMETERS: u64 = 0x7000;
pub(super) const STACK: u64 = 0x8ff0;
pub(super) const PAGE_TABLES: u64 = 0x9000;
const COMMAND_LINE: u64 = 0x2_0000;
/// The longest command line that the kernel takes.
const MAX_COMMAND_LINE: usize = 2048;
/// The end of what the first megabyte holds of memory, and of what of it is free.
pub(super) const BASE_MEMORY_END: u64 = 0x9_fc00;
const HIGH_START: u64 = 0x10_0000;

const PAGE: u64 = 4096;
const HUGE_PAGE: u64 = 2 << 20;

/// "Somebody unknown", as a boot loader.
const LOADER: u8 = 0xff;
const BOOT_FLAG: u16 = 0xaa55;
/// "HdrS".
const HEADER: u32 = 0x5372_6448;

const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// Load everything; the address to enter the kernel at.
pub(super) fn load(
    memory: &Memory,
    memory_mib: u32,
    software: &Software<'_>,
) -> Result<GuestAddress, KvmError> {
    let mut kernel = duplicate(software.kernel)?;
    let size = memory.iter().map(GuestMemoryRegion::len).sum::<u64>();
    let loaded = Elf::load(memory, None, &mut kernel, Some(GuestAddress(HIGH_START)));
    let loaded = match loaded {
        Ok(loaded) => loaded,
        // The only one that a good kernel can give.
        Err(error) if error.to_string().contains("read kernel image") => {
            return Err(KvmError::TooSmall(memory_mib));
        }
        Err(error) => return Err(KvmError::Kernel(error.to_string())),
    };
    let mut initramfs = duplicate(software.initramfs)?;
    let length = initramfs.metadata()?.len();
    // At the end of low memory, where the kernel does not need to move it.
    let end = size.min(LOW_MEMORY_END);
    let start = end
        .checked_sub(length)
        .map(|start| start & !(PAGE - 1))
        .filter(|start| *start > loaded.kernel_end)
        .ok_or(KvmError::TooSmall(memory_mib))?;
    memory
        .read_exact_volatile_from(GuestAddress(start), &mut initramfs, length as usize)
        .map_err(description)?;
    write_command_line(memory, software.arguments)?;
    write_page_tables(memory)?;
    let mut parameters = boot_params::default();
    parameters.hdr.type_of_loader = LOADER;
    parameters.hdr.boot_flag = BOOT_FLAG;
    parameters.hdr.header = HEADER;
    parameters.hdr.kernel_alignment = HUGE_PAGE as u32;
    parameters.hdr.cmd_line_ptr = COMMAND_LINE as u32;
    parameters.hdr.cmdline_size = software.arguments.len() as u32;
    parameters.hdr.ramdisk_image = start as u32;
    parameters.hdr.ramdisk_size = length as u32;
    let map = memory_map(size);
    parameters.e820_entries = map.len() as u8;
    for (entry, &(start, length, kind)) in parameters.e820_table.iter_mut().zip(&map) {
        *entry = boot_e820_entry {
            addr: start,
            size: length,
            type_: kind,
        };
    }
    memory
        .write_obj(parameters, GuestAddress(BOOT_PARAMETERS))
        .map_err(description)?;
    if let Some(tracer) = trace::get() {
        tracer.loaded(software.kernel.metadata()?.len() + length);
    }
    Ok(loaded.kernel_load)
}

/// A handle with the position at the start: the same descriptor may have been read before.
fn duplicate(file: &File) -> Result<File, KvmError> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    Ok(file)
}

/// What the guest's memory is: start, length, kind.
fn memory_map(size: u64) -> Vec<(u64, u64, u32)> {
    let low = size.min(LOW_MEMORY_END);
    let mut map = vec![
        (0, BASE_MEMORY_END, RAM),
        (BASE_MEMORY_END, 0xa_0000 - BASE_MEMORY_END, RESERVED),
        (HIGH_START, low - HIGH_START, RAM),
    ];
    if size > low {
        map.push((HIGH_MEMORY, size - low, RAM));
    }
    map
}

fn write_command_line(memory: &Memory, arguments: &str) -> Result<(), KvmError> {
    if arguments.len() >= MAX_COMMAND_LINE {
        return Err(KvmError::TooManyDevices);
    }
    let mut bytes = arguments.as_bytes().to_vec();
    bytes.push(0);
    memory
        .write_slice(&bytes, GuestAddress(COMMAND_LINE))
        .map_err(description)
}

/// The first gigabyte at its own addresses: enough for the kernel to make its own.
pub(super) fn write_page_tables(memory: &Memory) -> Result<(), KvmError> {
    const PRESENT_WRITABLE: u64 = 3;
    const HUGE: u64 = 1 << 7;
    let (second, third) = (PAGE_TABLES + PAGE, PAGE_TABLES + 2 * PAGE);
    let put = |entry: u64, at: u64| {
        memory
            .write_obj(entry, GuestAddress(at))
            .map_err(description)
    };
    put(second | PRESENT_WRITABLE, PAGE_TABLES)?;
    put(third | PRESENT_WRITABLE, second)?;
    let entries: Vec<u8> = (0..512)
        .flat_map(|index| ((index * HUGE_PAGE) | PRESENT_WRITABLE | HUGE).to_le_bytes())
        .collect();
    memory
        .write_slice(&entries, GuestAddress(third))
        .map_err(description)
}

pub(super) fn description(error: impl std::fmt::Display) -> KvmError {
    KvmError::Description(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_map_covers_all_memory_but_what_is_not_there() {
        for size in [64 << 20, LOW_MEMORY_END, LOW_MEMORY_END + (1 << 30)] {
            let map = memory_map(size);
            let ram: u64 = map.iter().filter(|entry| entry.2 == RAM).map(|e| e.1).sum();
            // All but the reserved kilobyte and the old hole below 1 MiB.
            assert_eq!(ram, size - (HIGH_START - BASE_MEMORY_END));
            for pair in map.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0);
            }
        }
    }
}
