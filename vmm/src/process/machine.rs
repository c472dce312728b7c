//! The second process: it serves the devices, and the guest is its child.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::console::Console;
use super::guest::{self, Start};
use super::{Failure, While, fds, stop};
use crate::StopReason;
use crate::control::{Channel, Command, Report};
use crate::devices::block::{Block, Disk};
use crate::devices::vsock::Vsock;
use crate::devices::{VirtioDevice, kind};
use crate::engine::{Attachment, uml};
use crate::jail::{self, Limits, Root, RootFile};
use crate::launch::{DiskKind, LaunchFiles, LaunchSpec};
use crate::poll::{Poller, Ready};
use crate::transport::{MemoryCache, VhostUser};

/// Descriptors of the process itself, which is owner 0 of the poller.
const CONTROL: u32 = 0;
const CONSOLE: u32 = 1;
const GUEST: u32 = 2;
const SHARES: u32 = 3;

/// Where the guest finds its initramfs.
const INITRAMFS: &str = "/dev/shm/initramfs";

/// The size of the root directory, which holds little more than names.
const ROOT_SIZE: u64 = 1 << 20;

/// Room for the initramfs beside guest memory.
const SCRATCH_ROOM: u64 = 64 << 20;

/// The vsock device's place in the list of transports: always the first.
const VSOCK: usize = 0;

/// Serve a machine until its end.
pub(super) fn main(
    channel: &Channel,
    spec: &LaunchSpec,
    files: LaunchFiles,
    shares: Option<Channel>,
    cpu_information: &[u8],
) -> ExitCode {
    let reason = match Machine::start(channel, spec, files, shares, cpu_information) {
        Ok(mut machine) => match machine.serve() {
            Ok(reason) => reason,
            Err(failure) => Some(StopReason::Failed(failure.to_string())),
        },
        Err(failure) => Some(StopReason::Failed(failure.to_string())),
    };
    match reason {
        Some(reason) => {
            // If the creator is gone, nobody is left to be told.
            let _ = channel.send(&Report::Stopped(reason), &[]);
            ExitCode::SUCCESS
        }
        None => ExitCode::FAILURE,
    }
}

struct Machine<'a> {
    channel: &'a Channel,
    poller: Poller,
    transports: Vec<VhostUser>,
    console: Console,
    shares: Option<Channel>,
    guest: Pid,
    _guest_fd: OwnedFd,
}

impl<'a> Machine<'a> {
    fn start(
        channel: &'a Channel,
        spec: &LaunchSpec,
        files: LaunchFiles,
        shares: Option<Channel>,
        mut cpu_information: &[u8],
    ) -> Result<Self, Failure> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).while_doing("bind to the parent")?;
        let LaunchFiles {
            kernel,
            initramfs,
            console,
            disks,
            ..
        } = files;
        let mut initramfs = File::from(initramfs);
        let root = Root::new(ROOT_SIZE)?;
        root.add(RootFile::Directory("/run"))?;
        // Guest memory, and the only place that can be written to.
        root.add(RootFile::Scratch(
            "/dev/shm",
            (u64::from(spec.memory_mib) << 20) + SCRATCH_ROOM,
        ))?;
        root.add(RootFile::Device("/dev/null"))?;
        root.add(RootFile::Directory("/proc"))?;
        root.add(RootFile::Copy("/proc/cpuinfo", &mut cpu_information))?;
        root.add(RootFile::Copy(INITRAMFS, &mut initramfs))?;
        root.enter()?;

        let poller = Poller::new().while_doing("make an event poll")?;
        let cache = MemoryCache::default();
        let mut transports = Vec::new();
        let mut attachments = Vec::new();
        let devices = devices(channel, spec, disks, &poller)?;
        for (index, device) in devices.into_iter().enumerate() {
            let socket = format!("/run/{index}");
            let listener = UnixListener::bind(&socket).while_doing("make a device socket")?;
            attachments.push(Attachment {
                kind: device.kind(),
                socket,
            });
            let own = poller.for_owner(transport_owner(index));
            transports.push(VhostUser::new(listener, device, own, cache.clone())?);
        }
        if let Some(channel) = &shares {
            for index in 0..spec.shares.len() {
                let socket = format!("/run/{}", transports.len() + index);
                let listener = UnixListener::bind(&socket).while_doing("make a device socket")?;
                channel
                    .send(&(), &[listener.as_fd()])
                    .map_err(Failure::Control)?;
                attachments.push(Attachment {
                    kind: kind::FS,
                    socket,
                });
            }
            poller
                .watch(channel.as_fd(), SHARES)
                .while_doing("watch the shared directories")?;
        }
        Root::freeze()?;
        let (reader, writer) = io::pipe().while_doing("make a pipe")?;
        let console = Console::new(File::from(OwnedFd::from(reader)), console.map(File::from))
            .while_doing("make the guest's console")?;
        let program = uml::program(spec, INITRAMFS, &attachments);
        let guest = guest::spawn(Start {
            program: &program,
            executable: kernel,
            console: File::from(OwnedFd::from(writer)),
            cpu: if spec.cpus == 1 { choose_cpu() } else { None },
        })?;
        let guest_fd = fds::pidfd(guest).while_doing("watch the guest's process")?;
        poller
            .watch(channel.as_fd(), CONTROL)
            .while_doing("watch the control channel")?;
        poller
            .watch(console.pipe().as_fd(), CONSOLE)
            .while_doing("watch the console")?;
        poller
            .watch(guest_fd.as_fd(), GUEST)
            .while_doing("watch the guest's process")?;
        jail::limit(Limits {
            descriptors: Some(8192),
            processes: None,
        })?;
        jail::drop_capabilities()?;
        Ok(Self {
            channel,
            poller,
            transports,
            console,
            shares,
            guest,
            _guest_fd: guest_fd,
        })
    }

    /// Serve until the guest ends, or the creator is gone (none).
    fn serve(&mut self) -> Result<Option<StopReason>, Failure> {
        let mut ready = Vec::new();
        loop {
            self.poller
                .wait(&mut ready)
                .while_doing("wait for events")?;
            for event in &ready {
                match (event.owner, event.token) {
                    (0, CONTROL) => {
                        if !self.command()? {
                            return Ok(None);
                        }
                    }
                    (0, CONSOLE) => {
                        if !self.console.pump() {
                            let pipe = self.console.pipe().as_fd();
                            self.poller.unwatch(pipe).while_doing("leave the console")?;
                        }
                    }
                    (0, SHARES) => return Ok(Some(self.shares_end())),
                    (0, _) => {
                        if let Some(status) = self.guest_status()? {
                            self.console.drain();
                            return Ok(Some(stop::reason(status, &self.console.tail())));
                        }
                    }
                    _ => {
                        if self.device(*event)? {
                            return self.end_guest().map(Some);
                        }
                    }
                }
            }
        }
    }

    /// Something of a device; true when the guest has begun to switch itself off.
    fn device(&mut self, event: Ready) -> Result<bool, Failure> {
        let index = (event.owner - 1) as usize / 2;
        let Some(transport) = self.transports.get_mut(index) else {
            return Ok(false);
        };
        if event.owner == transport_owner(index) {
            transport.transport_event(event)?;
            Ok(transport.leaving())
        } else {
            transport.device_event(event)?;
            Ok(false)
        }
    }

    /// End a guest that is switching itself off. A kernel does that after the last write;
    /// then it takes its devices apart one by one, which nobody needs to wait for.
    fn end_guest(&mut self) -> Result<StopReason, Failure> {
        nix::sys::signal::kill(self.guest, Signal::SIGKILL).while_doing("end the guest")?;
        waitpid(self.guest, None).while_doing("wait for the guest's process")?;
        self.console.drain();
        let status = WaitStatus::Exited(self.guest, 0);
        Ok(stop::reason(status, &self.console.tail()))
    }

    /// The process of the shared directories ended before the guest: why?
    fn shares_end(&self) -> StopReason {
        let received = self.shares.as_ref().map(Channel::receive::<Report>);
        match received {
            Some(Ok(Some((Report::Stopped(reason), _)))) => reason,
            _ => StopReason::Failed("the shared directories' process died".to_owned()),
        }
    }

    /// A message of the creator's; false when it is gone.
    fn command(&mut self) -> Result<bool, Failure> {
        let received = self
            .channel
            .receive::<Command>()
            .map_err(Failure::Control)?;
        let Some((command, mut fds)) = received else {
            return Ok(false);
        };
        match (command, fds.pop()) {
            (Command::Connect { port }, Some(stream)) => {
                if let Some(transport) = self.transports.get_mut(VSOCK) {
                    transport.connect(port, UnixStream::from(stream))?;
                }
                Ok(true)
            }
            _ => Err(Failure::Launch),
        }
    }

    fn guest_status(&self) -> Result<Option<WaitStatus>, Failure> {
        let status = waitpid(self.guest, Some(WaitPidFlag::WNOHANG))
            .while_doing("wait for the guest's process")?;
        Ok((status != WaitStatus::StillAlive).then_some(status))
    }
}

fn transport_owner(index: usize) -> u32 {
    index as u32 * 2 + 1
}

fn device_owner(index: usize) -> u32 {
    index as u32 * 2 + 2
}

/// The machine's devices: vsock first, then the disks in their order.
fn devices(
    channel: &Channel,
    spec: &LaunchSpec,
    disks: Vec<Vec<OwnedFd>>,
    poller: &Poller,
) -> Result<Vec<Box<dyn VirtioDevice>>, Failure> {
    let events = channel
        .duplicate()
        .while_doing("share the control channel")?;
    let on_ready = Box::new(move || {
        // The kernel has unpacked it long ago.
        let _ = std::fs::remove_file(INITRAMFS);
        // A creator that is gone is noticed on the channel itself.
        let _ = events.send(&Report::Ready, &[]);
    });
    let port = guest_agent::protocol::READY_PORT;
    let vsock = Vsock::new(poller.for_owner(device_owner(VSOCK)), port, on_ready);
    let mut devices: Vec<Box<dyn VirtioDevice>> = vec![Box::new(vsock)];
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

/// One of the CPUs that this process may use, spread over the machines of a host.
fn choose_cpu() -> Option<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let cpus: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu) == Ok(true))
        .collect();
    // The parent's number differs from machine to machine; this process's own is always 1.
    let seed = nix::unistd::getuid().as_raw() as usize;
    cpus.get(seed % cpus.len().max(1)).copied()
}
