//! Setting a machine up: its root directory, its devices, and its guest's process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::Pid;

use super::console::Console;
use super::guest::{self, Start};
use super::{Failure, While};
use crate::EngineKind;
use crate::control::{Channel, Report};
use crate::devices::block::{Block, Disk};
use crate::devices::rng::Rng;
use crate::devices::vsock::Vsock;
use crate::devices::{VirtioDevice, kind};
use crate::engine::{Attachment, GuestProgram, tcg, uml};
use crate::jail::{Role, Root, RootFile};
use crate::launch::{DiskKind, LaunchFiles, LaunchSpec};
use crate::poll::Poller;
use crate::transport::{MemoryCache, VhostUser};

/// Where the guest or QEMU finds the initramfs.
const INITRAMFS: &str = "/dev/shm/initramfs";

/// Where QEMU finds the guest kernel.
const KERNEL: &str = "/dev/shm/kernel";

/// The size of the root directory, which holds little more than names.
const ROOT_SIZE: u64 = 1 << 20;

/// Room for the initramfs and the kernel beside guest memory.
const SCRATCH_ROOM: u64 = 128 << 20;

/// The vsock device's place in the list of transports: always the first.
pub(super) const VSOCK: usize = 0;

/// A machine whose guest's process has been made.
#[derive(Debug)]
pub(super) struct Booted {
    pub(super) poller: Poller,
    pub(super) transports: Vec<VhostUser>,
    pub(super) console: Console,
    pub(super) guest: Pid,
    /// Whether the agent has said that it listens.
    pub(super) ready: Arc<AtomicBool>,
}

/// The poller's owner of a transport's descriptors.
pub(super) fn transport_owner(index: usize) -> u32 {
    index as u32 * 2 + 1
}

/// The poller's owner of a device's own descriptors.
fn device_owner(index: usize) -> u32 {
    index as u32 * 2 + 2
}

/// Set everything up and make the guest's process.
pub(super) fn boot(
    channel: &Channel,
    spec: &LaunchSpec,
    files: LaunchFiles,
    shares: Option<&Channel>,
    cpu_information: &[u8],
) -> Result<Booted, Failure> {
    let LaunchFiles {
        kernel,
        initramfs,
        emulator,
        console,
        disks,
        ..
    } = files;
    let executable = enter_root(spec, kernel, emulator, initramfs, cpu_information)?;
    let poller = Poller::new().while_doing("make an event poll")?;
    let ready = Arc::new(AtomicBool::new(false));
    let devices = devices(channel, spec, disks, &poller, ready.clone())?;
    let mut transports = Vec::new();
    let mut attachments = Vec::new();
    let cache = MemoryCache::default();
    for (index, device) in devices.into_iter().enumerate() {
        let (listener, attachment) = listen(index, device.kind(), None)?;
        attachments.push(attachment);
        let own = poller.for_owner(transport_owner(index));
        transports.push(VhostUser::new(listener, device, own, cache.clone())?);
    }
    if let Some(channel) = shares {
        for share in &spec.shares {
            let tag = Some(share.tag.clone());
            let (listener, attachment) = listen(attachments.len(), kind::FS, tag)?;
            channel
                .send(&(), &[listener.as_fd()])
                .map_err(Failure::Control)?;
            attachments.push(attachment);
        }
    }
    Root::freeze()?;
    // The guest's process has the same user, but must not get at this one.
    nix::sys::prctl::set_dumpable(false).while_doing("hide from the guest")?;
    let (reader, writer) = io::pipe().while_doing("make a pipe")?;
    let console = Console::new(File::from(OwnedFd::from(reader)), console.map(File::from))
        .while_doing("make the guest's console")?;
    let guest = guest::spawn(Start {
        program: &program(spec, &attachments),
        executable,
        console: File::from(OwnedFd::from(writer)),
        role: match spec.engine {
            EngineKind::Uml => Role::Uml,
            EngineKind::Tcg => Role::Qemu,
        },
        // Guest and guest kernel hand over to each other all the time; between two CPUs
        // that is several times as slow.
        one_cpu: spec.engine == EngineKind::Uml && spec.cpus == 1,
    })?;
    Ok(Booted {
        poller,
        transports,
        console,
        guest,
        ready,
    })
}

fn program(spec: &LaunchSpec, attachments: &[Attachment]) -> GuestProgram {
    match spec.engine {
        EngineKind::Uml => uml::program(spec, INITRAMFS, attachments),
        EngineKind::Tcg => tcg::program(spec, KERNEL, INITRAMFS, attachments),
    }
}

/// Make the root directory and enter it. Returns the program to execute.
fn enter_root(
    spec: &LaunchSpec,
    kernel: OwnedFd,
    emulator: Option<OwnedFd>,
    initramfs: OwnedFd,
    mut cpu_information: &[u8],
) -> Result<OwnedFd, Failure> {
    let root = Root::new(ROOT_SIZE)?;
    root.add(RootFile::Directory("/run"))?;
    // Guest memory, and the only place that can be written to.
    let scratch = (u64::from(spec.memory_mib) << 20) + SCRATCH_ROOM;
    root.add(RootFile::Scratch("/dev/shm", scratch))?;
    root.add(RootFile::Device("/dev/null"))?;
    root.add(RootFile::Copy(INITRAMFS, &mut File::from(initramfs)))?;
    let executable = match emulator {
        None => {
            root.add(RootFile::Directory("/proc"))?;
            root.add(RootFile::Copy("/proc/cpuinfo", &mut cpu_information))?;
            kernel
        }
        Some(emulator) => {
            root.add(RootFile::Copy(KERNEL, &mut File::from(kernel)))?;
            for directory in tcg::HOST_DIRECTORIES {
                root.add(RootFile::ReadOnly(directory))?;
            }
            emulator
        }
    };
    root.enter()?;
    Ok(executable)
}

/// A device's socket, and what the engine needs to know of it.
fn listen(
    index: usize,
    kind: u32,
    tag: Option<String>,
) -> Result<(UnixListener, Attachment), Failure> {
    let socket = format!("/run/{index}");
    let listener = UnixListener::bind(&socket).while_doing("make a device socket")?;
    Ok((listener, Attachment { kind, socket, tag }))
}

/// The machine's devices: vsock first, then the disks in their order.
fn devices(
    channel: &Channel,
    spec: &LaunchSpec,
    disks: Vec<Vec<OwnedFd>>,
    poller: &Poller,
    ready: Arc<AtomicBool>,
) -> Result<Vec<Box<dyn VirtioDevice>>, Failure> {
    let events = channel
        .duplicate()
        .while_doing("share the control channel")?;
    let on_ready = Box::new(move || {
        ready.store(true, Ordering::Relaxed);
        // The guest has them in its memory. For user-mode Linux there is no kernel file.
        let _ = std::fs::remove_file(INITRAMFS);
        let _ = std::fs::remove_file(KERNEL);
        // A creator that is gone is noticed on the channel itself.
        let _ = events.send(&Report::Ready, &[]);
    });
    let port = guest_agent::protocol::READY_PORT;
    let vsock = Vsock::new(poller.for_owner(device_owner(VSOCK)), port, on_ready);
    let mut devices: Vec<Box<dyn VirtioDevice>> = vec![Box::new(vsock)];
    if spec.engine != EngineKind::Uml {
        // User-mode Linux asks the host by itself.
        devices.push(Box::new(Rng));
    }
    for (spec, files) in spec.disks.iter().zip(disks) {
        let mut files: Vec<File> = files.into_iter().map(File::from).collect();
        let disk = match (spec.kind, files.pop()) {
            (DiskKind::Partitions(_), Some(last)) => {
                files.push(last);
                Disk::composed(files)
            }
            (DiskKind::Writable { durable }, Some(file)) => Disk::writable(file, durable),
            (_, None) => return Err(Failure::Launch),
        };
        let disk = disk.while_doing("use a disk")?;
        devices.push(Box::new(Block::new(disk, spec.serial.clone())));
    }
    Ok(devices)
}
