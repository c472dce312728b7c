//! The vhost-user connection, under user-mode Linux.

#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| vmm::fuzzing::vhost_user(script));
