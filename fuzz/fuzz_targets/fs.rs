//! The file system device, in a directory of its own.

#![no_main]

libfuzzer_sys::fuzz_target!(
    init: hull_fuzz::initialize(),
    |script: &[u8]| hull_fuzz::in_directory(script, vmm::fuzzing::fs)
);
