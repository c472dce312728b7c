//! Setting a machine up whose CPUs are threads of this process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::boot::{self, Booted, transport_owner};
use super::console::Console;
use super::cpus::Cpus;
use super::running::Guest;
use super::shares::ShareSocket;
use super::{Failure, While};
use crate::control::Channel;
use crate::devices::fs;
use crate::engine::kvm::command_line;
use crate::jail::{self, Root};
use crate::kvm::{Parts, Software, Vm};
use crate::launch::{LaunchFiles, LaunchSpec};
use crate::poll::Poller;
use crate::trace;
use crate::transport::Transport;
use crate::transport::mmio::{Mmio, Remote};

/// Set everything up; the CPUs wait.
pub(super) fn boot(
    channel: &Channel,
    spec: &LaunchSpec,
    files: LaunchFiles,
    root: Root,
    shares: Option<&Channel>,
) -> Result<Booted, Failure> {
    let LaunchFiles {
        kernel,
        initramfs,
        emulator,
        console,
        disks,
    } = files;
    let memory = root.memory(u64::from(spec.memory_mib) << 20)?;
    root.enter()?;
    Root::freeze()?;
    jail::drop_capabilities()?;
    let poller = Poller::new().while_doing("make an event poll")?;
    let vm = Vm::new(Parts {
        kvm: emulator.ok_or(Failure::Launch)?,
        memory,
        memory_mib: spec.memory_mib,
        cpus: spec.cpus,
    })?;
    if let Some(tracer) = trace::get() {
        tracer.step("memory is made");
    }
    let memory = vm.memory().clone();
    let mut devices = Vec::new();
    let own = boot::devices(channel, spec, disks, &poller)?;
    let first_interface = own.len() - spec.interfaces.len();
    for (index, device) in own.into_iter().enumerate() {
        let poller = poller.for_owner(transport_owner(index));
        let device = Mmio::local(device, memory.memory.clone(), &poller)?;
        devices.push(Arc::new(device));
    }
    if let Some(channel) = shares {
        for share in &spec.shares {
            let (ours, theirs) = UnixStream::pair().while_doing("make a device socket")?;
            channel
                .send(&ShareSocket { cpu: None }, &[theirs.as_fd()])
                .map_err(Failure::Control)?;
            let config = fs::configuration(&share.tag);
            let remote = Remote::new(ours, fs::IDENTITY, config, memory.clone());
            devices.push(Arc::new(Mmio::remote(remote, memory.memory.clone())?));
        }
    }
    let (reader, writer) = io::pipe().while_doing("make a pipe")?;
    let console = Console::new(File::from(OwnedFd::from(reader)), console.map(File::from))
        .while_doing("make the guest's console")?;
    let machine = vm.assemble(
        devices.clone(),
        &Software {
            kernel: &File::from(kernel),
            initramfs: &File::from(initramfs),
            arguments: &command_line(spec, devices.len()),
        },
        File::from(OwnedFd::from(writer)),
    )?;
    let transports = devices
        .into_iter()
        .map(|device| -> Box<dyn Transport> { Box::new(device) })
        .collect();
    Ok(Booted {
        poller,
        transports,
        first_disk: first_interface - spec.disks.len(),
        first_interface,
        console,
        guest: Guest::Cpus(Cpus::spawn(machine)?),
    })
}
