//! The network interface.

#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| vmm::fuzzing::net(script));
