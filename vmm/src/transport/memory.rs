//! Guest memory that a vhost-user front end describes, mapped once for all devices.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap, MmapRegion};

use crate::devices::Memory;

/// One region as the front end describes it, and the file that it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    file: (u64, u64),
    guest: u64,
    user: u64,
    size: u64,
    offset: u64,
}

/// A region's place in the front end's address space and in the guest's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    user: u64,
    guest: u64,
    size: u64,
}

/// Guest memory and how the front end sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct MappedMemory {
    pub(super) memory: Option<Memory>,
    mappings: Vec<Mapping>,
}

impl MappedMemory {
    /// The guest address of an address of the front end's.
    pub(super) fn guest_address(&self, user: u64) -> Option<u64> {
        self.mappings.iter().find_map(|mapping| {
            let offset = user.checked_sub(mapping.user)?;
            (offset < mapping.size)
                .then(|| mapping.guest.checked_add(offset))
                .flatten()
        })
    }
}

/// The memory that was mapped last, for the next device with the same memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryCache(Arc<Mutex<(Vec<Key>, MappedMemory)>>);

impl MemoryCache {
    /// Map these regions, or take them over from the device before.
    pub(super) fn map(
        &self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
    ) -> io::Result<MappedMemory> {
        let mut keys = Vec::with_capacity(regions.len());
        for (region, file) in regions.iter().zip(&files) {
            let metadata = file.metadata()?;
            keys.push(Key {
                file: (metadata.dev(), metadata.ino()),
                guest: region.guest_phys_addr,
                user: region.user_addr,
                size: region.memory_size,
                offset: region.mmap_offset,
            });
        }
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.1.memory.is_some() && cached.0 == keys {
            return Ok(cached.1.clone());
        }
        let mapped = map(regions, files)?;
        *cached = (keys, mapped.clone());
        Ok(mapped)
    }
}

fn map(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> io::Result<MappedMemory> {
    let mut mapped = Vec::with_capacity(regions.len());
    let mut mappings = Vec::with_capacity(regions.len());
    for (region, file) in regions.iter().zip(files) {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let size = usize::try_from(region.memory_size).map_err(|_| invalid())?;
        // A file that is too short would fault when it is accessed. One that is cut later
        // ends the machine, as the guest could do anyway.
        let end = region
            .mmap_offset
            .checked_add(region.memory_size)
            .ok_or_else(invalid)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() < end {
            return Err(invalid());
        }
        let mapping = MmapRegion::from_file(FileOffset::new(file, region.mmap_offset), size)
            .map_err(io::Error::other)?;
        let guest = GuestAddress(region.guest_phys_addr);
        mapped.push(GuestRegionMmap::new(mapping, guest).ok_or_else(invalid)?);
        mappings.push(Mapping {
            user: region.user_addr,
            guest: region.guest_phys_addr,
            size: region.memory_size,
        });
    }
    let memory = Memory::from_regions(mapped).map_err(io::Error::other)?;
    Ok(MappedMemory {
        memory: Some(memory),
        mappings,
    })
}
