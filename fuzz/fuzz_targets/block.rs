//! The block device.

#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| vmm::fuzzing::block(script));
