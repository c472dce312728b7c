//! The balloon: the guest tells which of its memory it does not use, and the host has it back.
//!
//! Nothing asks a guest to give memory up. Its kernel reports what programs have freed, by itself
//! and some time later (free page reporting); what it uses again is memory full of zeros.

use std::os::fd::AsFd;

use nix::fcntl::{FallocateFlags, fallocate};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryRegion, MemoryRegionAddress};

use super::{Buffers, DeviceError, Memory, RING_FEATURES, VirtQueue, VirtioDevice, kind};

/// Reports of free pages.
const F_REPORTING: u64 = 1 << 5;

/// Numbers of pages that the guest gives up, or wants back. Every other queue is one for reports:
/// drivers number them differently where there are no queues for statistics and hints.
const INFLATE: usize = 0;
const DEFLATE: usize = 1;

/// Linux wants room for all five queues that a balloon can have.
const QUEUES: usize = 5;

/// The size of a page in a number of pages, whatever the guest's is.
const PAGE_SHIFT: u32 = 12;

/// The most numbers that are read of one request: a driver sends 256.
const MAX_NUMBERS: usize = 1024;

/// A virtio balloon device.
#[derive(Debug, Default)]
pub(crate) struct Balloon;

impl VirtioDevice for Balloon {
    fn kind(&self) -> u32 {
        kind::BALLOON
    }

    fn queues(&self) -> usize {
        QUEUES
    }

    fn features(&self) -> u64 {
        RING_FEATURES | F_REPORTING
    }

    fn queue_event(
        &mut self,
        index: usize,
        memory: &Memory,
        queues: &mut [VirtQueue],
    ) -> Result<(), DeviceError> {
        let Some(queue) = queues.get_mut(index) else {
            return Ok(());
        };
        loop {
            queue.pause_kicks(memory)?;
            while let Some(chain) = queue.pop(memory)? {
                let head = chain.head_index();
                match index {
                    INFLATE => {
                        let (mut numbers, _) = Buffers::of_chain(chain, memory)?;
                        inflate(memory, &mut numbers)?;
                    }
                    // What is used again is there again.
                    DEFLATE => {}
                    _ => {
                        for page in chain.filter(|descriptor| descriptor.is_write_only()) {
                            give_back(memory, page.addr(), u64::from(page.len()))?;
                        }
                    }
                }
                queue.push(memory, head, 0)?;
            }
            queue.notify(memory)?;
            if !queue.resume_kicks(memory)? {
                return Ok(());
            }
        }
    }
}

/// Give back the pages with these numbers, those that follow each other at once.
fn inflate(memory: &Memory, numbers: &mut Buffers<'_>) -> Result<(), DeviceError> {
    let mut bytes = [0; 4 * MAX_NUMBERS];
    let len = numbers.read(&mut bytes);
    let words = bytes.get(..len).unwrap_or_default().chunks_exact(4);
    let pages = words.filter_map(|word| Some(u32::from_le_bytes(word.try_into().ok()?)));
    let mut run: Option<(u64, u64)> = None;
    for page in pages.map(u64::from) {
        run = match run {
            Some((first, count)) if first + count == page => Some((first, count + 1)),
            Some((first, count)) => {
                give_back_pages(memory, first, count)?;
                Some((page, 1))
            }
            None => Some((page, 1)),
        };
    }
    match run {
        Some((first, count)) => give_back_pages(memory, first, count),
        None => Ok(()),
    }
}

fn give_back_pages(memory: &Memory, first: u64, count: u64) -> Result<(), DeviceError> {
    let start = GuestAddress(first << PAGE_SHIFT);
    give_back(memory, start, count << PAGE_SHIFT)
}

/// Take a piece out of the file that the guest's memory lies in. Every process that has mapped it
/// finds zeros there from then on.
fn give_back(memory: &Memory, start: GuestAddress, len: u64) -> Result<(), DeviceError> {
    let outside = || {
        let what = format!("{len} bytes at {:#x} are not the guest's memory", start.0);
        DeviceError::Descriptor(what)
    };
    let region = memory.find_region(start).ok_or_else(outside)?;
    let MemoryRegionAddress(at) = region.to_region_addr(start).ok_or_else(outside)?;
    if at.checked_add(len).is_none_or(|end| end > region.len()) {
        return Err(outside());
    }
    let Some(place) = region.file_offset() else {
        return Ok(());
    };
    let offset = place.start().checked_add(at).ok_or_else(outside)?;
    if let (Ok(offset), Ok(len @ 1..)) = (offset.try_into(), len.try_into()) {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // A file system that cannot do it keeps the memory, as without a balloon.
        let _ = fallocate(place.file().as_fd(), flags, offset, len);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use proptest::prelude::*;
    use vm_memory::{Bytes, FileOffset, GuestRegionMmap, MmapRegion};

    use super::super::testing::{BUFFERS, Driver, MEMORY, Piece};
    use super::*;

    /// Memory in a file, of which nothing is missing.
    fn memory() -> (Memory, File) {
        let file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap());
        file.set_len(MEMORY).unwrap();
        let place = FileOffset::new(file.try_clone().unwrap(), 0);
        let mapping = MmapRegion::from_file(place, MEMORY as usize).unwrap();
        let region = GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap();
        let memory = Memory::from_regions(vec![region]).unwrap();
        memory
            .write_slice(&vec![7; MEMORY as usize], GuestAddress(0))
            .unwrap();
        // No rings yet.
        memory
            .write_slice(&vec![0; BUFFERS as usize], GuestAddress(0))
            .unwrap();
        (memory, file)
    }

    fn held(file: &File) -> u64 {
        file.metadata().unwrap().blocks() * 512
    }

    /// Offer one chain on a queue, and let the device work.
    fn ask(memory: &Memory, index: usize, pieces: &[Piece]) -> Result<(), DeviceError> {
        let mut queues = Vec::new();
        let mut drivers = Vec::new();
        for index in 0..3 {
            let (driver, queue) = Driver::new(memory, index);
            drivers.push(driver);
            queues.push(queue);
        }
        drivers[index].offer(pieces);
        Balloon.queue_event(index, memory, &mut queues)
    }

    fn report(address: u64, len: u32) -> Piece {
        Piece {
            address,
            len,
            writable: true,
        }
    }

    #[test]
    fn reported_memory_goes_back_and_is_zero() {
        let (memory, file) = memory();
        let before = held(&file);
        let pieces = [
            report(BUFFERS, 1 << 20),
            report(BUFFERS + (2 << 20), 64 << 10),
        ];
        ask(&memory, 2, &pieces).unwrap();
        assert_eq!(before - held(&file), (1 << 20) + (64 << 10));
        let byte = |at| memory.read_obj::<u8>(GuestAddress(at)).unwrap();
        assert_eq!(byte(BUFFERS), 0);
        assert_eq!(byte(BUFFERS + (1 << 20) - 1), 0);
        assert_eq!(byte(BUFFERS + (1 << 20)), 7, "what follows stays");
    }

    #[test]
    fn pages_that_are_given_up_go_back_too() {
        let (memory, file) = memory();
        let before = held(&file);
        let first = ((BUFFERS + 0x10000) >> PAGE_SHIFT) as u32;
        for (index, page) in [first, first + 1, first + 7].into_iter().enumerate() {
            let at = GuestAddress(BUFFERS + 4 * index as u64);
            memory.write_obj(page.to_le(), at).unwrap();
        }
        let numbers = Piece {
            address: BUFFERS,
            len: 12,
            writable: false,
        };
        ask(&memory, DEFLATE, &[numbers]).unwrap();
        assert_eq!(held(&file), before);
        ask(&memory, INFLATE, &[numbers]).unwrap();
        assert_eq!(before - held(&file), 3 << PAGE_SHIFT);
    }

    #[test]
    fn what_is_not_memory_is_refused() {
        let (memory, file) = memory();
        let before = held(&file);
        for (address, len) in [
            (MEMORY, 4096),
            (MEMORY - 4096, 8192),
            (u64::MAX - 4095, 4096),
            (u64::MAX, u32::MAX),
        ] {
            assert!(ask(&memory, 2, &[report(address, len)]).is_err());
        }
        assert_eq!(held(&file), before);
    }

    proptest! {
        #[test]
        fn hostile_rings_are_harmless(
            index in 0usize..3,
            pieces in prop::collection::vec((0..MEMORY * 2, any::<u32>(), any::<bool>()), 1..20),
        ) {
            let (memory, file) = memory();
            let pieces: Vec<Piece> = pieces
                .into_iter()
                .map(|(address, len, writable)| Piece { address, len, writable })
                .collect();
            // An error, or nothing.
            let _ = ask(&memory, index, &pieces);
            prop_assert_eq!(file.metadata().unwrap().len(), MEMORY);
        }
    }
}
