//! Setting a machine up: its root directory, its devices, and its guest's process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use super::console::Console;
use super::guest::{self, Start};
use super::listen::Listener;
use super::running::Guest;
use super::shares::ShareSocket;
use super::{Failure, While, affinity};
use crate::EngineKind;
use crate::control::{Channel, Report};
use crate::devices::balloon::Balloon;
use crate::devices::block::{Block, Disk, Throttle};
use crate::devices::net::Net;
use crate::devices::rng::Rng;
use crate::devices::vsock::Vsock;
use crate::devices::{VirtioDevice, kind};
use crate::engine::uml::Inherited;
use crate::engine::{Attachment, GuestProgram, Socket, tcg, uml};
use crate::jail::{self, Role, Root, RootFile};
use crate::launch::{DiskKind, LaunchFiles, LaunchSpec};
use crate::poll::Poller;
use crate::trace;
use crate::transport::{MemoryCache, Transport, VhostUser};

/// QEMU's only place in the root directory that can be written to.
const SCRATCH: &str = "/boot";

/// Where QEMU finds the initramfs.
const INITRAMFS: &str = "/boot/initramfs";

/// Where QEMU finds the guest kernel.
const KERNEL: &str = "/boot/kernel";

/// The most that the initramfs and the kernel take together.
const SCRATCH_SIZE: u64 = 256 << 20;

/// The vsock device's place in the list of transports: always the first.
pub(super) const VSOCK: usize = 0;

/// A machine whose guest's process has been made.
#[derive(Debug)]
pub(super) struct Booted {
    pub(super) poller: Poller,
    pub(super) transports: Vec<Box<dyn Transport>>,
    /// The first disk's place in the list of transports.
    pub(super) first_disk: usize,
    /// The first network interface's.
    pub(super) first_interface: usize,
    pub(super) console: Console,
    pub(super) guest: Guest,
}

/// The poller's owner of a transport's descriptors.
pub(super) fn transport_owner(index: usize) -> u32 {
    index as u32 * 2 + 1
}

/// The poller's owner of a device's own descriptors.
pub(super) fn device_owner(index: usize) -> u32 {
    index as u32 * 2 + 2
}

/// Set everything up and make the guest's process.
pub(super) fn boot(
    channel: &Channel,
    spec: &LaunchSpec,
    files: LaunchFiles,
    root: Root,
    shares: Option<&Channel>,
    cpu_information: &[u8],
) -> Result<Booted, Failure> {
    let LaunchFiles {
        kernel,
        initramfs,
        emulator,
        console,
        disks,
    } = files;
    let (executable, own) = enter_root(root, spec, kernel, emulator, initramfs, cpu_information)?;
    jail::drop_capabilities()?;
    let cpu = match (spec.engine, spec.cpus) {
        (EngineKind::Uml, 1) => Some(affinity::stay()?),
        _ => None,
    };
    let poller = Poller::new().while_doing("make an event poll")?;
    let devices = devices(channel, spec, disks, &poller)?;
    let first_interface = devices.len() - spec.interfaces.len();
    let mut transports: Vec<Box<dyn Transport>> = Vec::new();
    let mut ends = Ends::default();
    // Interfaces come last, so that their order stays.
    let mut waiting = Vec::new();
    let cache = MemoryCache::default();
    for (index, device) in devices.into_iter().enumerate() {
        let mac = index
            .checked_sub(first_interface)
            .and_then(|number| spec.interfaces.get(number).copied());
        if let (Some(mac), EngineKind::Tcg) = (mac, spec.engine) {
            let listener = ends.listen(device.kind(), mac, index)?;
            waiting.push((index, device, listener));
            continue;
        }
        let stream = ends.add(device.kind(), None, mac)?;
        let own = poller.for_owner(transport_owner(index));
        let transport = VhostUser::new(stream, device, own, cache.clone())?;
        transports.push(Box::new(transport));
    }
    if let Some(channel) = shares {
        for share in &spec.shares {
            let stream = ends.add(kind::FS, Some(share.tag.clone()), None)?;
            channel
                .send(&ShareSocket { cpu }, &[stream.as_fd()])
                .map_err(Failure::Control)?;
        }
    }
    // The guest's process has the same user, but must not get at this one.
    jail::hide()?;
    let (reader, writer) = io::pipe().while_doing("make a pipe")?;
    let console = Console::new(File::from(OwnedFd::from(reader)), console.map(File::from))
        .while_doing("make the guest's console")?;
    let inherited = own.map(|own| Inherited {
        memory: ends.keep(own.memory.into()),
        initramfs: ends.keep(own.initramfs),
    });
    let (program, role) = program(spec, inherited, &ends.attachments)?;
    let guest = guest::spawn(Start {
        program: &program,
        descriptors: &ends.descriptors,
        executable,
        console: File::from(OwnedFd::from(writer)),
        role,
    })?;
    let guest = Guest::of_process(guest)?;
    for (index, device, listener) in waiting {
        // A guest that has ended instead is noticed by whoever waits for its end.
        if let Some(stream) = listener.accept(&guest)? {
            let own = poller.for_owner(transport_owner(index));
            let transport = VhostUser::new(stream, device, own, cache.clone())?;
            transports.push(Box::new(transport));
        }
    }
    Ok(Booted {
        poller,
        transports,
        first_disk: first_interface - spec.disks.len(),
        first_interface,
        console,
        guest,
    })
}

/// The program to execute, and what it is.
fn program(
    spec: &LaunchSpec,
    inherited: Option<Inherited>,
    attachments: &[Attachment],
) -> Result<(GuestProgram, Role), Failure> {
    match (spec.engine, inherited) {
        (EngineKind::Uml, Some(inherited)) => {
            Ok((uml::program(spec, inherited, attachments), Role::Uml))
        }
        (EngineKind::Tcg, _) => Ok((
            tcg::program(spec, KERNEL, INITRAMFS, attachments),
            Role::Qemu,
        )),
        // The guest of the one is no process, that of the other has its memory.
        (EngineKind::Kvm, _) | (EngineKind::Uml, None) => Err(Failure::Launch),
    }
}

/// The files that user-mode Linux gets as its own.
struct OwnFiles {
    memory: File,
    initramfs: OwnedFd,
}

/// Fill the root directory and enter it. Returns the program to execute, and what it finds
/// open if it is the guest kernel itself.
fn enter_root(
    root: Root,
    spec: &LaunchSpec,
    kernel: OwnedFd,
    emulator: Option<OwnedFd>,
    initramfs: OwnedFd,
    cpu_information: &[u8],
) -> Result<(OwnedFd, Option<OwnFiles>), Failure> {
    root.add(RootFile::Device("/dev/null"))?;
    let started = match emulator {
        None => {
            root.add(RootFile::Bytes("/proc/cpuinfo", cpu_information))?;
            let memory = root.memory(u64::from(spec.memory_mib) << 20)?;
            (kernel, Some(OwnFiles { memory, initramfs }))
        }
        Some(emulator) => {
            // For what is needed until the guest has booted.
            root.add(RootFile::Scratch(SCRATCH, SCRATCH_SIZE))?;
            root.add(RootFile::Copy(INITRAMFS, File::from(initramfs)))?;
            root.add(RootFile::Copy(KERNEL, File::from(kernel)))?;
            for directory in tcg::HOST_DIRECTORIES {
                root.add(RootFile::ReadOnly(directory))?;
            }
            (emulator, None)
        }
    };
    root.enter()?;
    Root::freeze()?;
    Ok(started)
}

/// The guest's ends of the devices' sockets, and what the engine needs to know of them.
#[derive(Default)]
struct Ends {
    descriptors: Vec<OwnedFd>,
    attachments: Vec<Attachment>,
}

impl Ends {
    /// Let the guest's program have a descriptor. Returns its number.
    fn keep(&mut self, descriptor: OwnedFd) -> RawFd {
        let number = descriptor.as_raw_fd();
        self.descriptors.push(descriptor);
        number
    }

    /// Add a device. Returns the device's end.
    fn add(
        &mut self,
        kind: u32,
        tag: Option<String>,
        mac: Option<[u8; 6]>,
    ) -> Result<UnixStream, Failure> {
        let (ours, theirs) = UnixStream::pair().while_doing("make a device socket")?;
        self.attachments.push(Attachment {
            kind,
            socket: Socket::Inherited(theirs.as_raw_fd()),
            tag,
            mac,
        });
        self.descriptors.push(theirs.into());
        Ok(ours)
    }

    /// Add a network interface that QEMU connects to.
    fn listen(&mut self, kind: u32, mac: [u8; 6], index: usize) -> Result<Listener, Failure> {
        let listener = Listener::new(format!("{SCRATCH}/device{index}"))?;
        self.attachments.push(Attachment {
            kind,
            socket: Socket::Path(listener.path().to_owned()),
            tag: None,
            mac: Some(mac),
        });
        Ok(listener)
    }
}

/// What is on a disk, which has `size` bytes if that is known before its files are.
pub(super) fn disk(
    kind: DiskKind,
    files: Vec<OwnedFd>,
    size: Option<u64>,
) -> Result<Disk, Failure> {
    let mut files: Vec<File> = files.into_iter().map(File::from).collect();
    let disk = match (kind, files.pop()) {
        (DiskKind::Partitions(_), Some(last)) => {
            files.push(last);
            Disk::composed(files, size)
        }
        (DiskKind::Writable { durable }, Some(file)) => Disk::writable(file, durable),
        (DiskKind::Awaited { size, writable }, None) => Ok(Disk::Awaited { size, writable }),
        _ => return Err(Failure::Launch),
    };
    disk.while_doing("use a disk")
}

/// The machine's devices: vsock first, then the disks and at last the network interfaces, in
/// their orders.
pub(super) fn devices(
    channel: &Channel,
    spec: &LaunchSpec,
    disks: Vec<Vec<OwnedFd>>,
    poller: &Poller,
) -> Result<Vec<Box<dyn VirtioDevice>>, Failure> {
    let events = channel
        .duplicate()
        .while_doing("share the control channel")?;
    let on_ready = Box::new(move || {
        // The guest has them in its memory. User-mode Linux has neither file.
        let _ = std::fs::remove_file(INITRAMFS);
        let _ = std::fs::remove_file(KERNEL);
        // A creator that is gone is noticed on the channel itself.
        let trace = trace::get().map(|tracer| Box::new(tracer.report()));
        let _ = events.send(&Report::Ready(trace), &[]);
    });
    let port = guest_agent::protocol::READY_PORT;
    let vsock = Vsock::new(poller.for_owner(device_owner(VSOCK)), port, on_ready);
    let mut devices: Vec<Box<dyn VirtioDevice>> = vec![Box::new(vsock)];
    if spec.engine != EngineKind::Uml {
        // User-mode Linux asks the host by itself.
        devices.push(Box::new(Rng));
    }
    if spec.engine != EngineKind::Tcg {
        // QEMU has its own, as the memory is its own.
        devices.push(Box::new(Balloon));
    }
    let limits = spec.disk_limits;
    for (spec, files) in spec.disks.iter().zip(disks) {
        let disk = disk(spec.kind, files, None)?;
        let own = poller.for_owner(device_owner(devices.len()));
        let throttle = Throttle::new(&limits, &own).while_doing("make a timer")?;
        let block = Block::new(disk, spec.serial.clone()).with_limits(throttle);
        devices.push(Box::new(block));
    }
    for mac in &spec.interfaces {
        let own = poller.for_owner(device_owner(devices.len()));
        let net = Net::new(*mac, own).with_limits(spec.network_limits);
        devices.push(Box::new(net.while_doing("make a timer")?));
    }
    if let Some(tracer) = trace::get() {
        let own = devices.iter().map(|device| device.kind());
        let shares = spec.shares.iter().map(|_| kind::FS);
        tracer.devices(own.chain(shares).map(|kind| kind::name(kind).to_owned()));
    }
    Ok(devices)
}
