//! The registers of virtio-mmio, and what they promise to devices.

#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| vmm::fuzzing::registers(script));
