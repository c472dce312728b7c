//! The second process: it serves the devices, and the guest is its child.

use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::boot::{self, Booted, VSOCK, transport_owner};
use super::kvm;
use super::{Failure, While};
use crate::control::{Channel, Command, Report};
use crate::jail::{self, Limits, Role, Root};
use crate::launch::Adoption;
use crate::poll::Ready;
use crate::trace;
use crate::{EngineKind, StopReason};

/// The size of the root directory, which holds little more than names.
const ROOT_SIZE: u64 = 1 << 20;

/// Descriptors of the process itself, which is owner 0 of the poller.
const CONTROL: u32 = 0;
const CONSOLE: u32 = 1;
const GUEST: u32 = 2;
const SHARES: u32 = 3;

/// Wait for a machine and serve it until its end.
pub(super) fn main(
    channel: &Channel,
    shares: Option<Channel>,
    cpu_information: &[u8],
    lifeline: &PipeReader,
) -> ExitCode {
    let reason = match Machine::start(channel, shares, cpu_information, lifeline) {
        Ok(Some(mut machine)) => match machine.serve() {
            Ok(reason) => reason,
            Err(failure) => Some(StopReason::Failed(failure.to_string())),
        },
        Ok(None) => None,
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

/// What lists of processes show: whose machine it is. The kernel cuts names to 15 bytes.
fn name(machine: &str) -> Result<(), Failure> {
    let name: String = format!("vmm-{machine}")
        .chars()
        .filter(char::is_ascii_graphic)
        .collect();
    let name = std::ffi::CString::new(name).map_err(io::Error::from);
    let name = name.while_doing("name the machine's process")?;
    nix::sys::prctl::set_name(&name).while_doing("name the machine's process")
}

struct Machine<'a> {
    channel: &'a Channel,
    booted: Booted,
    shares: Option<Channel>,
}

impl<'a> Machine<'a> {
    /// None when the creator is gone, or wants no machine.
    fn start(
        channel: &'a Channel,
        shares: Option<Channel>,
        cpu_information: &[u8],
        lifeline: &PipeReader,
    ) -> Result<Option<Self>, Failure> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).while_doing("bind to the parent")?;
        let mut fds = [PollFd::new(lifeline.as_fd(), PollFlags::POLLIN)];
        // One that ended before it was bound to sends no signal.
        if poll(&mut fds, PollTimeout::ZERO).while_doing("look after the parent")? != 0 {
            return Ok(None);
        }
        let root = Root::new(ROOT_SIZE)?;
        let Some((spec, files)) = super::receive_launch(channel)? else {
            return Ok(None);
        };
        if spec.trace_boot {
            trace::begin();
        }
        name(&spec.name)?;
        let booted = match spec.engine {
            EngineKind::Kvm => kvm::boot(channel, &spec, files, root, shares.as_ref())?,
            _ => boot::boot(
                channel,
                &spec,
                files,
                root,
                shares.as_ref(),
                cpu_information,
            )?,
        };
        let watched = [
            (channel.as_fd(), CONTROL),
            (booted.console.pipe().as_fd(), CONSOLE),
            (booted.guest.end_fd(), GUEST),
        ];
        let shares_fd = shares.as_ref().map(|channel| (channel.as_fd(), SHARES));
        for (fd, token) in watched.into_iter().chain(shares_fd) {
            booted
                .poller
                .watch(fd, token)
                .while_doing("watch the machine")?;
        }
        jail::limit(Limits {
            descriptors: Some(8192),
            processes: None,
        })?;
        jail::confine(Role::Devices)?;
        if let Some(tracer) = trace::get() {
            tracer.guest_begins();
        }
        booted.guest.begin();
        Ok(Some(Self {
            channel,
            booted,
            shares,
        }))
    }

    /// Serve until the guest ends, or the creator is gone (none).
    fn serve(&mut self) -> Result<Option<StopReason>, Failure> {
        let mut ready = Vec::new();
        loop {
            self.booted
                .poller
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
                        let console = &mut self.booted.console;
                        if !console.pump() {
                            let pipe = console.pipe().as_fd();
                            self.booted
                                .poller
                                .unwatch(pipe)
                                .while_doing("leave the console")?;
                        }
                        if self.booted.console.switched_off() {
                            return self.end_guest().map(Some);
                        }
                    }
                    (0, SHARES) => return Ok(Some(self.shares_end())),
                    (0, _) => {
                        let Booted { guest, console, .. } = &mut self.booted;
                        if let Some(reason) = guest.ended(console)? {
                            return Ok(Some(reason));
                        }
                    }
                    _ => {
                        if let Err(failure) = self.device(*event) {
                            // A kernel that has said goodbye takes its queues apart while
                            // they are still on.
                            self.booted.console.drain();
                            if self.booted.console.switched_off() {
                                return self.end_guest().map(Some);
                            }
                            return Err(failure);
                        }
                    }
                }
            }
        }
    }

    /// It waited for a container, and here is one.
    fn adopt(&mut self, adoption: &Adoption) -> Result<(), Failure> {
        let fds = super::receive_descriptors(self.channel, adoption.descriptors())?;
        let (console, disks) = adoption.sort(fds);
        name(&adoption.name)?;
        if let Some(file) = console {
            self.booted.console.keep_in(File::from(file));
        }
        let transports = self.booted.transports.iter_mut();
        let places = transports.skip(self.booted.first_disk);
        for ((disk, files), transport) in adoption.disks.iter().zip(disks).zip(places) {
            transport.insert(boot::disk(disk.kind, files, Some(disk.size))?)?;
        }
        Ok(())
    }

    fn device(&mut self, event: Ready) -> Result<(), Failure> {
        let index = (event.owner - 1) as usize / 2;
        if let Some(tracer) = trace::get() {
            tracer.event(index);
        }
        let Some(transport) = self.booted.transports.get_mut(index) else {
            return Ok(());
        };
        if event.owner == transport_owner(index) {
            Ok(transport.transport_event(event)?)
        } else {
            Ok(transport.device_event(event)?)
        }
    }

    /// End a guest that has switched itself off. What its kernel does after it has said so
    /// is taking its devices apart, one by one, which nobody needs to wait for. Some machines
    /// do not even end then.
    fn end_guest(&mut self) -> Result<StopReason, Failure> {
        let Booted { guest, console, .. } = &mut self.booted;
        guest.finish(console)
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
                if let Some(transport) = self.booted.transports.get_mut(VSOCK) {
                    transport.connect(port, UnixStream::from(stream))?;
                }
                Ok(true)
            }
            (Command::Network(place), tap) => {
                let index = self.booted.first_interface.saturating_add(place.interface);
                if let Some(transport) = self.booted.transports.get_mut(index) {
                    transport.attach(place.vlan, tap.map(File::from))?;
                }
                Ok(true)
            }
            (Command::Adopt(adoption), _) => self.adopt(&adoption).map(|()| true),
            _ => Err(Failure::Launch),
        }
    }
}
