//! Guest memory that nothing can be touched around.

use std::ptr;

use vm_memory::{Bytes, GuestAddress, GuestRegionMmap, MmapRegion};

use crate::devices::Memory;

/// How much memory the guest has.
pub(super) const SIZE: usize = 128 << 10;

/// What lies before and behind it: more than any length that a descriptor can have by itself
/// would be too much, an overrun by a page or a thousand is seen.
const AROUND: usize = 16 << 20;

const PROTECTION: i32 = libc::PROT_READ | libc::PROT_WRITE;
const FLAGS: i32 = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE;

thread_local! {
    static MEMORY: Memory = map();
}

/// The memory, all zeros.
pub(super) fn zeroed() -> Memory {
    let memory = MEMORY.with(Memory::clone);
    memory.write_slice(&[0; SIZE], GuestAddress(0)).unwrap();
    memory
}

fn map() -> Memory {
    // SAFETY: a new mapping at no particular place, and then access to its middle, which is
    // within it. Neither is ever unmapped.
    let start = unsafe {
        let whole = libc::mmap(
            ptr::null_mut(),
            SIZE + 2 * AROUND,
            libc::PROT_NONE,
            FLAGS,
            -1,
            0,
        );
        assert_ne!(whole, libc::MAP_FAILED);
        let start = whole.cast::<u8>().add(AROUND);
        assert_eq!(libc::mprotect(start.cast(), SIZE, PROTECTION), 0);
        start
    };
    // SAFETY: the range has just been mapped like this, and lives as long as the process.
    let region = unsafe { MmapRegion::build_raw(start, SIZE, PROTECTION, FLAGS) }.unwrap();
    let region = GuestRegionMmap::new(region, GuestAddress(0)).unwrap();
    Memory::from_regions(vec![region]).unwrap()
}
