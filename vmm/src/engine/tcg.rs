//! QEMU's translator: any architecture on any host, exact and slow.
//!
//! QEMU is the CPU, the interrupt controller and a serial port; every device with data in
//! it is this crate's, over vhost-user.

use std::ffi::CString;
use std::path::PathBuf;

use super::{Attachment, GuestProgram, REPORTING, Socket};
use crate::GuestArch;
use crate::devices::kind;
use crate::launch::LaunchSpec;

/// What QEMU needs of the host: its libraries, firmware and itself.
pub(crate) const HOST_DIRECTORIES: [&str; 4] = ["/usr", "/lib", "/lib64", "/lib32"];

/// Translated code that is kept, in MiB.
const TRANSLATION_CACHE: u32 = 128;

/// The system calls that QEMU gives up by itself.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Where QEMU usually is.
pub(crate) fn default_program(arch: GuestArch) -> PathBuf {
    PathBuf::from(format!("/usr/bin/qemu-system-{arch}"))
}

/// QEMU's command line.
pub(crate) fn program(
    spec: &LaunchSpec,
    kernel: &str,
    initramfs: &str,
    devices: &[Attachment],
) -> GuestProgram {
    let quiet = if spec.verbose {
        spec.log_level()
    } else {
        "quiet"
    };
    let (machine, cpu, append) = match spec.arch {
        GuestArch::X86_64 => (
            // Without a timer chip the kernel cannot calibrate its clock.
            "microvm,x-option-roms=off,pit=on,pic=on,rtc=on,acpi=off,memory-backend=m",
            "max",
            "console=ttyS0 reboot=t no_timer_check",
        ),
        GuestArch::Aarch64 => (
            "virt,gic-version=3,its=off,memory-backend=m",
            // The architected pointer authentication costs more than everything else.
            "max,pauth-impdef=on",
            "console=ttyAMA0",
        ),
    };
    let mut arguments: Vec<String> = [
        "qemu",
        "-name",
        &spec.name.replace(',', "_"),
        "-no-user-config",
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
        "-sandbox",
        SANDBOX,
        "-machine",
        machine,
        "-accel",
        &format!("tcg,tb-size={TRANSLATION_CACHE}"),
        "-cpu",
        cpu,
        "-smp",
        &spec.cpus.to_string(),
        "-m",
        &format!("{}M", spec.memory_mib),
        "-object",
        &format!(
            "memory-backend-memfd,id=m,size={}M,share=on",
            spec.memory_mib
        ),
        "-global",
        "virtio-mmio.force-legacy=false",
        "-serial",
        "stdio",
        "-kernel",
        kernel,
        "-initrd",
        initramfs,
        "-append",
        // An emulated CPU does not speculate.
        &format!(
            "{append} rdinit=/init {quiet} panic=-1 mitigations=off random.trust_cpu=on {REPORTING}"
        ),
        "-device",
        "virtio-balloon-device,free-page-reporting=on",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    for (index, device) in devices.iter().enumerate() {
        let socket = match &device.socket {
            Socket::Inherited(number) => format!("fd={number}"),
            Socket::Path(path) => format!("path={path}"),
        };
        arguments.extend([
            "-chardev".to_owned(),
            format!("socket,id=c{index},{socket}"),
        ]);
        if let Some([a, b, c, d, e, f]) = device.mac {
            let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            arguments.extend([
                "-netdev".to_owned(),
                format!("vhost-user,id=n{index},chardev=c{index}"),
                "-device".to_owned(),
                format!("virtio-net-device,netdev=n{index},mac={mac}"),
            ]);
            continue;
        }
        let name = match device.kind {
            kind::BLOCK => "vhost-user-blk",
            kind::VSOCK => "vhost-user-vsock-device",
            kind::FS => "vhost-user-fs-device",
            _ => "vhost-user-rng",
        };
        let tag = device
            .tag
            .as_ref()
            .map(|tag| format!(",tag={}", tag.replace(',', ",,")));
        arguments.extend([
            "-device".to_owned(),
            format!("{name},chardev=c{index}{}", tag.unwrap_or_default()),
        ]);
    }
    GuestProgram {
        arguments: arguments
            .into_iter()
            .filter_map(|text| CString::new(text).ok())
            .collect(),
        environment: Vec::new(),
    }
}
