//! User-mode Linux: the guest kernel is a host process, and each guest process another one
//! that it traces.

use std::ffi::CString;
use std::os::fd::RawFd;

use super::{Attachment, GuestProgram, REPORTING, Socket};
use crate::launch::LaunchSpec;

/// Skips the kernel's calibration of a delay loop that nothing in it depends on.
const LOOPS_PER_JIFFY: &str = "lpj=36000000";

/// What the guest kernel finds open: the numbers of its descriptors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited {
    pub(crate) memory: RawFd,
    pub(crate) initramfs: RawFd,
}

/// The guest's command line.
pub(crate) fn program(
    spec: &LaunchSpec,
    inherited: Inherited,
    devices: &[Attachment],
) -> GuestProgram {
    let quiet = if spec.verbose {
        spec.log_level()
    } else {
        "quiet"
    };
    let mut arguments = vec![
        format!("hull-guest:{}", spec.name),
        format!("mem={}M", spec.memory_mib),
        format!("memory_fd={}", inherited.memory),
        format!("initrd=fd={}", inherited.initramfs),
        "rdinit=/init".to_owned(),
        // The main console is the pipe on descriptor 1; there is no other.
        "con=null".to_owned(),
        "con0=null,fd:1".to_owned(),
        "console=tty0".to_owned(),
        quiet.to_owned(),
        "noreboot".to_owned(),
        "panic=-1".to_owned(),
        LOOPS_PER_JIFFY.to_owned(),
        REPORTING.to_owned(),
        // Keeps the kernel from adding a root of its own.
        "root=/dev/ram0".to_owned(),
    ];
    if spec.cpus > 1 {
        // Several CPUs need the other way of running guest processes.
        arguments.push("seccomp=on".to_owned());
        arguments.push(format!("ncpus={}", spec.cpus));
    }
    for device in devices {
        // It inherits all of them.
        if let Socket::Inherited(number) = device.socket {
            arguments.push(format!("virtio_uml.device=fd={number}:{}", device.kind));
        }
    }
    GuestProgram {
        arguments: arguments
            .into_iter()
            .filter_map(|text| CString::new(text).ok())
            .collect(),
        // It finds its own memory by where its environment lies: there must be one.
        environment: vec![c"HOME=/".to_owned()],
    }
}
