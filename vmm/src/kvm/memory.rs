//! Guest memory: one file in memory, which other processes can map too.

use std::fs::File;
use std::io;
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemory, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress,
    MmapRegion,
};

use super::{Asking, KvmError};
use crate::devices::Memory;
use crate::transport::mmio::SharedMemory;

/// A file for a guest's memory where no better one is at hand.
pub(super) fn ordinary(size: u64) -> io::Result<File> {
    let file = File::from(memfd_create(c"guest", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(size)?;
    Ok(file)
}

/// Use a file as memory that the guest sees at these addresses, with these sizes.
pub(super) fn create(file: File, ranges: &[(u64, u64)]) -> io::Result<SharedMemory> {
    let file = Arc::new(file);
    let mut regions = Vec::new();
    let mut offset = 0;
    for &(start, size) in ranges {
        let len = usize::try_from(size).map_err(io::Error::other)?;
        let place = FileOffset::from_arc(file.clone(), offset);
        let mapping = MmapRegion::from_file(place, len).map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(start));
        regions.push(region.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?);
        offset += size;
    }
    let memory = Memory::from_regions(regions).map_err(io::Error::other)?;
    Ok(SharedMemory { memory, file })
}

/// Give a machine its memory.
pub(super) fn attach(vm: &VmFd, memory: &Memory) -> Result<(), KvmError> {
    for (slot, region) in memory.iter().enumerate() {
        let address = region
            .get_host_address(MemoryRegionAddress(0))
            .map_err(|error| KvmError::Description(error.to_string()))?;
        let description = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: address as u64,
        };
        // SAFETY: the range is one mapping of this process, which is kept as long as the
        // machine runs (`Kept`), and no Rust reference to it ever exists.
        unsafe { vm.set_user_memory_region(description) }.to("take the guest's memory")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn memory_is_where_it_was_asked_for_and_nowhere_else() {
        let file = ordinary(3 << 20).unwrap();
        let shared = create(file, &[(0, 1 << 20), (1 << 32, 2 << 20)]).unwrap();
        let memory = &shared.memory;
        memory.write_obj(7u32, GuestAddress((1 << 32) + 4)).unwrap();
        assert!(memory.write_obj(7u32, GuestAddress(1 << 20)).is_err());
        assert!(memory.write_obj(7u32, GuestAddress((1 << 20) - 2)).is_err());
        // The second range follows the first in the file.
        use std::os::unix::fs::FileExt;
        let mut word = [0; 4];
        shared.file.read_exact_at(&mut word, (1 << 20) + 4).unwrap();
        assert_eq!(word, 7u32.to_ne_bytes());
    }
}
