//! The balloon, which gives memory back to the host.

#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| vmm::fuzzing::balloon(script));
