//! The creator's handle on a machine.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command as Program, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, Pid, fork};

use crate::child::{Child, End};
use crate::control::{Channel, Command, FDS_PER_PACKET, Report};
use crate::jail::Confined;
use crate::launch::{DiskKind, Opened};
use crate::limits::{Bounds, Size};
use crate::process::{self, NO_JAIL_ARGUMENT, SHARES_ARGUMENT};
use crate::{
    BootTrace, Event, HostLimits, LimitError, MachineConfig, NetworkPlace, StopReason,
    VMM_ARGUMENT, launch,
};

/// A machine that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense.
    #[error("cannot make a machine: {0}")]
    Invalid(String),
    /// A file is not there or not accessible.
    #[error("cannot open the {what} {}: {source}", path.display())]
    Open {
        /// What the file is for.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The VMM process could not be made or spoken to.
    #[error("cannot start the machine's process: {0}")]
    Spawn(#[source] io::Error),
}

/// A stream into the guest that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to port {port} of the guest: {source}")]
pub struct ConnectError {
    port: u32,
    source: io::Error,
}

/// A control channel that broke.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the machine's events: {0}")]
pub struct EventError(#[from] io::Error);

/// A VMM process that has built its jail and waits for its machine. Dropping it ends it.
///
/// Made early, it costs a machine's start nothing of its own.
#[derive(Debug)]
pub struct Spare(Machine);

impl Spare {
    /// Make the process. A caller with a single thread, and nothing in its memory that a
    /// guest must not see if it takes the VMM over, is copied, which is faster than executing
    /// the program anew.
    pub fn spawn() -> Result<Self, StartError> {
        if !single_threaded() {
            return spawn(&[]).map(Self);
        }
        let (ours, theirs) = Channel::pair().map_err(StartError::Spawn)?;
        // SAFETY: this process has a single thread, so the child may do everything. It never
        // comes back from here, so it uses and drops nothing that the caller owns.
        match unsafe { fork() }.map_err(|errno| StartError::Spawn(errno.into()))? {
            ForkResult::Child => {
                drop(ours);
                process::copied_main(theirs)
            }
            ForkResult::Parent { child } => Ok(Self(Machine::of(ours, child))),
        }
    }

    /// Start a machine in it, or in another one when it does not serve: the process of the
    /// shared directories cannot be made from inside the jail, and nobody leaves it.
    pub fn start(self, config: &MachineConfig) -> Result<Machine, StartError> {
        if config.shares.is_empty() && !config.no_jail {
            self.0.launch(launch::open(config)?)
        } else {
            Machine::start(config)
        }
    }
}

/// Make a VMM process.
fn spawn(arguments: &[&str]) -> Result<Machine, StartError> {
    let (ours, theirs) = Channel::pair().map_err(StartError::Spawn)?;
    let vmm = Program::new("/proc/self/exe")
        .arg0("hull-vmm")
        .arg(VMM_ARGUMENT)
        .args(arguments)
        .env_clear()
        .envs(order())
        .stdin(Stdio::from(theirs.into_fd()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(StartError::Spawn)?;
    let pid = i32::try_from(vmm.id()).map_err(io::Error::other);
    let pid = Pid::from_raw(pid.map_err(StartError::Spawn)?);
    Ok(Machine::of(ours, pid))
}

/// What a test wants the process to try.
fn order() -> Option<(&'static str, String)> {
    #[cfg(feature = "misbehave")]
    if let Ok(order) = std::env::var(crate::misbehave::VARIABLE) {
        return Some((crate::misbehave::VARIABLE, order));
    }
    None
}

/// Whether this process has no other threads.
fn single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// A running machine. Dropping it kills it.
#[derive(Debug)]
pub struct Machine {
    channel: Channel,
    vmm: Child,
    /// Descriptors of the VMM's children, to be sure that they are gone after a kill.
    children: Vec<OwnedFd>,
    stopped: Option<StopReason>,
    trace: Option<Box<BootTrace>>,
    /// How large it is, since it was launched.
    size: Option<Size>,
    /// Its name, since it was launched.
    name: String,
    /// What bounds it on the host, where that is wanted.
    confined: Option<Confined>,
    /// The host has killed processes of it for lack of memory.
    starved: bool,
    /// Its agent listens.
    ready: bool,
    /// The disks that have nothing on them yet, until [`Machine::adopt`].
    awaited: Vec<DiskKind>,
}

impl Machine {
    fn of(channel: Channel, vmm: Pid) -> Self {
        Self {
            channel,
            vmm: Child::of(vmm),
            children: Vec::new(),
            stopped: None,
            trace: None,
            size: None,
            name: String::new(),
            confined: None,
            starved: false,
            ready: false,
            awaited: Vec::new(),
        }
    }

    /// Start a machine: open every file that the configuration names, make the VMM process
    /// and hand the files to it. Returns without waiting for the guest to boot.
    pub fn start(config: &MachineConfig) -> Result<Self, StartError> {
        let opened = launch::open(config)?;
        let shares = (!opened.shares.is_empty()).then_some(SHARES_ARGUMENT);
        let no_jail = config.no_jail.then_some(NO_JAIL_ARGUMENT);
        let arguments: Vec<_> = shares.into_iter().chain(no_jail).collect();
        spawn(&arguments)?.launch(opened)
    }

    fn launch(mut self, opened: Opened) -> Result<Self, StartError> {
        let Opened {
            spec,
            files,
            shares,
            host_limits,
        } = opened;
        let size = Size::of(&spec);
        self.name.clone_from(&spec.name);
        if host_limits.wanted {
            self.confine(&size.bounds(&host_limits));
        }
        self.size = Some(size);
        let disks = spec.disks.iter().map(|disk| disk.kind);
        self.awaited = disks
            .take_while(|kind| matches!(kind, DiskKind::Awaited { .. }))
            .collect();
        if !shares.is_empty() {
            let command = Command::Shares(spec.shares.clone());
            self.send(&command, &shares).map_err(StartError::Spawn)?;
        }
        self.send(&Command::Launch(spec), &files.into_vec())
            .map_err(StartError::Spawn)?;
        Ok(self)
    }

    /// Begin to put it into a group of the host's.
    fn confine(&mut self, bounds: &Bounds) {
        let (process, name) = (self.pid(), self.name.clone());
        self.confined = Some(Confined::begin(process, name, bounds.clone()));
    }

    /// Make a machine that waits, with [`crate::DiskSource::Awaited`] disks before all others, the one
    /// that `config` describes, as far as disks, name and console say; whether it fits is for
    /// the caller to know, but for the disks. False when these do not fit; it is as it was then.
    pub fn adopt(&mut self, config: &MachineConfig) -> Result<bool, StartError> {
        let Some((adoption, files)) = launch::open_awaited(&self.awaited, config)? else {
            return Ok(false);
        };
        self.name.clone_from(&adoption.name);
        self.awaited.clear();
        self.send(&Command::Adopt(adoption), &files)
            .map_err(StartError::Spawn)?;
        Ok(true)
    }

    /// Whether its agent listens, as far as has been heard.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    fn send(&self, command: &Command, fds: &[OwnedFd]) -> io::Result<()> {
        self.channel.send(command, &[])?;
        for batch in fds.chunks(FDS_PER_PACKET) {
            let batch: Vec<_> = batch.iter().map(AsFd::as_fd).collect();
            self.channel.send(&Command::Descriptors, &batch)?;
        }
        Ok(())
    }

    /// Open a stream to a vsock port of the guest. The stream works at once; if the guest
    /// refuses the connection, it just closes.
    pub fn connect(&self, port: u32) -> Result<UnixStream, ConnectError> {
        let fail = |source| ConnectError { port, source };
        let (ours, theirs) = UnixStream::pair().map_err(fail)?;
        self.channel
            .send(&Command::Connect { port }, &[theirs.as_fd()])
            .map_err(fail)?;
        Ok(ours)
    }

    /// Give a place its network: a TAP device with virtio-net headers, now or instead of an
    /// earlier one; or take it away. What the guest sends to a place without one is lost.
    pub fn connect_network(
        &self,
        place: NetworkPlace,
        tap: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        self.channel.send(&Command::Network(place), tap.as_slice())
    }

    /// The descriptor to wait on for [`Machine::next_event`].
    pub fn control_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Wait for the next event. After [`Event::Stopped`] the same event is returned again.
    pub fn next_event(&mut self) -> Result<Event, EventError> {
        loop {
            if let Some(reason) = &self.stopped {
                return Ok(Event::Stopped(reason.clone()));
            }
            if let Some(event) = self.take_report()? {
                return Ok(event);
            }
        }
    }

    /// Take one report in; most are no event.
    fn take_report(&mut self) -> Result<Option<Event>, EventError> {
        match self.channel.receive::<Report>() {
            Ok(Some((Report::Child, fds))) => self.children.extend(fds),
            Ok(Some((Report::Ready(trace), _))) => {
                self.trace = trace;
                self.ready = true;
                return Ok(Some(Event::Ready));
            }
            Ok(Some((Report::Stopped(reason), _))) => {
                self.reap()?;
                self.stopped = Some(self.reason(reason));
            }
            // The VMM process ended without a word.
            Ok(None) => {
                let status = self.reap()?;
                self.stopped = Some(self.reason(unannounced(status)));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.kill();
                let reason = format!("the machine's process sent nonsense: {error}");
                self.stopped = Some(StopReason::Failed(reason));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }

    /// The next event, if it comes within this time.
    pub fn next_event_within(&mut self, limit: Duration) -> Result<Option<Event>, EventError> {
        let end = Instant::now() + limit;
        while self.stopped.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(None),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
                Ok(_) => {
                    if let Some(event) = self.take_report()? {
                        return Ok(Some(event));
                    }
                }
            }
        }
        self.next_event().map(Some)
    }

    /// What starting it took, once after [`Event::Ready`], if its configuration asked for it.
    pub fn take_boot_trace(&mut self) -> Option<Box<BootTrace>> {
        self.trace.take()
    }

    /// Whether the host bounds what it may use, once that is known: an error says what is not.
    pub fn limited(&mut self) -> Result<(), LimitError> {
        match self.confined.as_mut().map(Confined::settle) {
            Some(Ok(group)) => group.lacking().map_or(Ok(()), |error| Err(error.clone())),
            Some(Err(error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Whether the host has killed processes of it for lack of memory; known at its end.
    pub fn starved(&self) -> bool {
        self.starved
    }

    /// Change what its processes may use of the host.
    pub fn limit(&mut self, limits: &HostLimits) -> Result<(), LimitError> {
        let Some(size) = self.size else {
            return Ok(());
        };
        let bounds = size.bounds(limits);
        if self.confined.is_none() {
            self.confine(&bounds);
        }
        match &mut self.confined {
            Some(confined) => confined.settle()?.set(&bounds),
            None => Ok(()),
        }
    }

    /// The VMM process.
    pub fn pid(&self) -> i32 {
        self.vmm.pid()
    }

    /// Send the whole tree to its end without waiting for it; [`Machine::kill`] does.
    pub fn begin_kill(&mut self) {
        self.vmm.kill();
    }

    /// Kill the whole tree and wait until every process of it is gone.
    pub fn kill(&mut self) {
        // Reports that are still unread may carry descriptors of children.
        while self.stopped.is_none() && self.readable() {
            match self.channel.receive::<Report>() {
                Ok(Some((Report::Stopped(reason), _))) => self.stopped = Some(reason),
                Ok(Some((_, fds))) => self.children.extend(fds),
                Ok(None) | Err(_) => break,
            }
        }
        self.vmm.kill();
        let status = self.reap();
        if self.stopped.is_none() {
            self.stopped = Some(status.map_or(StopReason::Killed { signal: 9 }, unannounced));
        }
    }

    fn readable(&self) -> bool {
        let mut fds = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
    }

    /// Wait for the VMM process and for its children, which die with it.
    fn reap(&mut self) -> io::Result<End> {
        // Whoever still moves its processes knows them by numbers, which are free afterwards.
        if let Some(confined) = &mut self.confined {
            let _ = confined.settle();
        }
        let status = self.vmm.wait()?;
        for child in self.children.drain(..) {
            let mut fds = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
            while matches!(
                poll(&mut fds, PollTimeout::NONE),
                Err(nix::errno::Errno::EINTR)
            ) {}
        }
        if let Some(Ok(group)) = self.confined.take().as_mut().map(Confined::settle) {
            self.starved |= group.out_of_memory();
            group.remove();
        }
        Ok(status)
    }

    /// Why it ended, given what it said itself.
    fn reason(&self, said: StopReason) -> StopReason {
        match said {
            StopReason::PowerOff => said,
            _ if self.starved => StopReason::HostMemory,
            _ => said,
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn unannounced(end: End) -> StopReason {
    match end {
        End::Signal(signal) => StopReason::Killed { signal },
        End::Status(_) => StopReason::Failed(format!("the machine's process ended early ({end})")),
    }
}
