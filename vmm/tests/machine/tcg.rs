//! Machines under QEMU's translator: the same devices behind another front end.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use vmm::{DirShare, Disk, DiskSource, EngineKind, GuestArch, MachineConfig, StopReason};

use crate::life::processes_named;
use crate::support::{ask, ask_with, boot, build, config, end, kernel, open};

pub const TESTS: &[(&str, fn())] = &[
    ("tcg::every_device_works", every_device_works),
    (
        "tcg::panic_is_told_with_its_words",
        panic_is_told_with_its_words,
    ),
    ("tcg::several_cpus", several_cpus),
    (
        "tcg::ordinary_users_have_machines_too",
        ordinary_users_have_machines_too,
    ),
    ("tcg::arm_guests_run", arm_guests_run),
];

fn tcg(name: &str) -> MachineConfig {
    MachineConfig {
        engine: EngineKind::Tcg,
        arch: GuestArch::X86_64,
        memory_mib: 192,
        kernel: kernel("vmlinux-x86_64"),
        ..config(name)
    }
}

fn every_device_works() {
    let directory = tempfile::tempdir().unwrap();
    let layer = directory.path().join("layer");
    let disk = directory.path().join("disk");
    fs::write(&layer, b"layer".repeat(2000)).unwrap();
    File::create(&disk).unwrap().set_len(8 << 20).unwrap();
    let mut config = tcg("tcg-devices");
    config.console = Some(directory.path().join("console"));
    config.disks = vec![
        Disk {
            serial: "layers".to_owned(),
            source: DiskSource::Partitions(vec![layer]),
        },
        Disk {
            serial: "writable".to_owned(),
            source: DiskSource::Writable {
                path: disk.clone(),
                durable: true,
            },
        },
    ];
    config.shares = vec![DirShare {
        tag: "data".to_owned(),
        source: directory.path().to_owned(),
        read_only: false,
    }];
    let mut machine = boot(&config);
    // Names depend on the order in which the guest finds devices; serials do not.
    let named = |serial: &str| {
        let found = ["vda", "vdb"]
            .into_iter()
            .find(|name| ask(&machine, &format!("read /sys/block/{name}/serial")) == serial);
        format!("/dev/{}", found.unwrap())
    };
    let answer = ask_with(&machine, &format!("read {}1 0 10000", named("layers")), &[]);
    assert!(answer == b"layer".repeat(2000));
    let data: Vec<u8> = (0..1_000_000u32).map(|i| (i % 249) as u8).collect();
    let command = format!("write {} 4096", named("writable"));
    assert_eq!(ask_with(&machine, &command, &data), b"ok\n");
    assert!(fs::read(&disk).unwrap()[4096..4096 + data.len()] == data);
    assert_eq!(ask(&machine, "mount data /data virtiofs rw"), "ok");
    assert!(ask_with(&machine, "read /data/layer", &[]) == b"layer".repeat(2000));
    assert_eq!(ask(&machine, "mkdir /data/made"), "ok");
    assert!(directory.path().join("made").is_dir());
    assert!(ask_with(&machine, "echo", &data) == data);
    assert!(ask(&machine, "read /sys/class/misc/hw_random/rng_current").starts_with("virtio_rng"));
    drop(open(&machine, "poweroff"));
    assert_eq!(end(&mut machine), StopReason::PowerOff);
    assert_eq!(processes_named("tcg-devices"), Vec::<i32>::new());
}

fn panic_is_told_with_its_words() {
    let mut machine = boot(&tcg("tcg-panic"));
    drop(open(&machine, "exit"));
    let reason = end(&mut machine);
    assert!(
        matches!(&reason, StopReason::Panic(words) if words.contains("Attempted to kill init")),
        "{reason:?}"
    );
}

fn several_cpus() {
    let mut config = tcg("tcg-cpus");
    config.cpus = 2;
    let mut machine = boot(&config);
    assert_eq!(ask(&machine, "read /sys/devices/system/cpu/online"), "0-1");
    machine.kill();
    assert_eq!(processes_named("tcg-cpus"), Vec::<i32>::new());
}

fn ordinary_users_have_machines_too() {
    crate::life::as_ordinary_user(EngineKind::Tcg, "vmlinux-x86_64");
}

/// The test guest for ARM, with Debian's cross compiler (`libstd-rust-web-dev:arm64`).
fn arm_initramfs() -> PathBuf {
    let mut compiler = Command::new("/usr/bin/rustc");
    compiler.args([
        "--target=aarch64-unknown-linux-gnu",
        "-C",
        "linker=aarch64-linux-gnu-gcc",
    ]);
    build("test-initramfs-arm.cpio", compiler)
}

fn arm_guests_run() {
    let mut config = tcg("tcg-arm");
    config.arch = GuestArch::Aarch64;
    config.kernel = kernel("Image-aarch64");
    config.initramfs = arm_initramfs();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "shared").unwrap();
    config.disks = vec![Disk {
        serial: "layers".to_owned(),
        source: DiskSource::Partitions(vec![directory.path().join("file")]),
    }];
    config.shares = vec![DirShare {
        tag: "data".to_owned(),
        source: directory.path().to_owned(),
        read_only: true,
    }];
    let mut machine = boot(&config);
    assert!(ask(&machine, "read /proc/cpuinfo").contains("CPU architecture: 8"));
    assert!(ask_with(&machine, "read /dev/vda1", &[]).starts_with(b"shared"));
    assert_eq!(ask(&machine, "mount data /data virtiofs ro"), "ok");
    assert_eq!(ask(&machine, "read /data/file"), "shared");
    drop(open(&machine, "poweroff"));
    assert_eq!(end(&mut machine), StopReason::PowerOff);
}
