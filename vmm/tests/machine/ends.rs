//! How guests end on KVM, each told apart: kernels of a few instructions that do nothing else.
//!
//! They need a `/dev/kvm` that runs guests: `HULL_TEST_ENGINES` says so (`tests/kvm/misbehave`).

use vmm::{EngineKind, GuestArch, Machine, MachineConfig, StopReason};

use crate::support::{end, unique};

pub const TESTS: &[(&str, fn())] = &[
    ("ends::power_off", power_off),
    ("ends::panic", panic),
    ("ends::triple_fault", triple_fault),
    ("ends::kvm_gives_up", kvm_gives_up),
];

/// Where the kernel is put, and entered.
const PLACE: u64 = 0x10_0000;

/// The keyboard controller's command to reset the machine.
const RESET: &[u8] = &[
    0xb0, 0xfe, // mov al, 0xfe
    0xe6, 0x64, // out 0x64, al
];

/// An ELF file with one segment, which is this code.
fn elf(code: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // An executable for x86-64, version 1.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [PLACE, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    // Flags, the sizes of both kinds of headers, one segment, no sections.
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // To be loaded, read and executed.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let length = code.len() as u64;
    for word in [HEADERS, PLACE, PLACE, length, length, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    assert_eq!(file.len() as u64, HEADERS);
    file.extend(code);
    file
}

/// The end of a guest with this kernel.
fn end_of(code: &[u8]) -> StopReason {
    let kernel = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(kernel.path(), elf(code)).unwrap();
    let config = MachineConfig {
        name: unique("ends"),
        engine: EngineKind::Kvm,
        arch: GuestArch::X86_64,
        memory_mib: 64,
        cpus: 1,
        kernel: kernel.path().to_owned(),
        // It never gets as far as reading it.
        initramfs: kernel.path().to_owned(),
        disks: Vec::new(),
        disk_limits: vmm::IoLimits::default(),
        network_limits: vmm::RateLimits::default(),
        host_limits: vmm::HostLimits::default(),
        trace_boot: false,
        verbose: false,
        no_jail: false,
        shares: Vec::new(),
        interfaces: Vec::new(),
        console: None,
        qemu: None,
    };
    let mut machine = Machine::start(&config).unwrap();
    end(&mut machine)
}

fn power_off() {
    assert_eq!(end_of(RESET), StopReason::PowerOff);
}

fn panic() {
    let mut code = Vec::new();
    // mov dx, 0x3f8
    code.extend([0x66, 0xba, 0xf8, 0x03]);
    for byte in b"Kernel panic - not syncing: for a test\n" {
        // mov al, byte; out dx, al
        code.extend([0xb0, *byte, 0xee]);
    }
    code.extend(RESET);
    assert_eq!(end_of(&code), StopReason::Panic("for a test".to_owned()));
}

fn triple_fault() {
    let code = [
        0x0f, 0x01, 0x1d, 0x02, 0x00, 0x00, 0x00, // lidt: ten zeros, two bytes from here
        0x0f, 0x0b, // ud2
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let reason = end_of(&code).to_string();
    assert!(reason.contains("triple fault"), "{reason}");
}

fn kvm_gives_up() {
    let code = [
        0xb8, 0x00, 0x00, 0x00, 0x20, // mov eax, 0x20000000: no memory and no device
        0xff, 0xe0, // jmp rax
    ];
    let reason = end_of(&code).to_string();
    assert!(reason.contains("KVM gave the guest up"), "{reason}");
}
