//! Archives that a guest sends, unpacked in a directory of their own.

#![no_main]

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use guest_agent::archive::{Owner, Unpack, unpack};

fn unpack_in(bytes: &[u8], directory: &Path) {
    let how = Unpack {
        owner: Owner::Unpacker,
        set_ids: false,
        devices: false,
    };
    let directory = File::open(directory).unwrap();
    // What it does not understand it refuses.
    let _ = unpack(directory.as_fd(), bytes, how);
}

libfuzzer_sys::fuzz_target!(
    init: hull_fuzz::initialize(),
    |archive: &[u8]| hull_fuzz::in_directory(archive, unpack_in)
);
