//! The VMM process: one per machine.
//!
//! It is two processes. The first, which the creator knows, makes the namespaces and then
//! only waits. The second is the first process of the machine's PID namespace: it serves the
//! devices and has the guest as its child. Whichever ends takes all others with it, because
//! the kernel ends a PID namespace with its first process.

mod affinity;
mod boot;
mod console;
mod cpus;
mod fds;
mod guest;
mod kvm;
mod listen;
mod machine;
mod running;
mod shares;
mod stop;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::StopReason;
use crate::control::{Channel, Command, Report};
use crate::jail::{self, JailError, Role};
use crate::launch::{LaunchFiles, LaunchSpec, ShareSpec};

/// Why a machine could not be set up or cannot go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The control channel broke.
    #[error("the machine's control channel failed: {0}")]
    Control(io::Error),
    /// What arrived on the control channel makes no sense.
    #[error("the machine's launch message makes no sense")]
    Launch,
    /// The jail could not be built.
    #[error("cannot jail the machine: {0}")]
    Jail(#[from] JailError),
    /// The machine could not be made.
    #[error(transparent)]
    Kvm(#[from] crate::kvm::KvmError),
    /// A device or its transport failed.
    #[error(transparent)]
    Transport(#[from] crate::transport::TransportError),
    /// Something else of the host failed.
    #[error("cannot {0}: {1}")]
    Host(&'static str, io::Error),
}

/// Name what was being done when the host failed.
trait While<T> {
    fn while_doing(self, what: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> While<T> for Result<T, E> {
    fn while_doing(self, what: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Host(what, error.into()))
    }
}

/// The argument of a VMM process that will be given directories to share.
pub(crate) const SHARES_ARGUMENT: &str = "shares";

/// The argument of one that goes without the jail.
pub(crate) const NO_JAIL_ARGUMENT: &str = "no-jail";

/// Be a VMM process: what the `hull` program does when its first argument is
/// [`crate::VMM_ARGUMENT`]. The control channel is descriptor 0.
pub fn vmm_main() -> ExitCode {
    let has = |wanted: &str| std::env::args().skip(2).any(|argument| argument == wanted);
    if has(crate::probe::ARGUMENT) {
        return crate::probe::probe_main();
    }
    if has(NO_JAIL_ARGUMENT) {
        jail::leave_off();
    }
    // SAFETY: the creator put the channel on descriptor 0, and nothing else in this new
    // process uses the number: standard input is never touched.
    let channel = Channel::from_fd(unsafe { OwnedFd::from_raw_fd(0) });
    begin(channel, has(SHARES_ARGUMENT))
}

/// Be a VMM process, in a copy of the creator.
pub(crate) fn copied_main(channel: Channel) -> ! {
    std::process::exit(i32::from(begin(channel, false) != ExitCode::SUCCESS))
}

fn begin(channel: Channel, shares: bool) -> ExitCode {
    // Whatever else the creator had open is none of the machine's business.
    fds::close_others(&[channel.as_fd()]);
    report_panics(&channel);
    match set_up(&channel, shares) {
        Ok(set_up) => run(channel, set_up),
        Err(failure) => fail(&channel, &failure),
    }
}

/// A panic is a bug; the creator learns where. There is no standard error to print it to.
fn report_panics(channel: &Channel) {
    let Ok(channel) = channel.duplicate() else {
        return;
    };
    std::panic::set_hook(Box::new(move |panic| {
        let reason = StopReason::Failed(format!("the machine's process has a bug: {panic}"));
        let _ = channel.send(&Report::Stopped(reason), &[]);
    }));
}

/// Tell the creator what failed. If it is gone, nobody is left to be told.
fn fail(channel: &Channel, failure: &Failure) -> ExitCode {
    let _ = channel.send(
        &Report::Stopped(StopReason::Failed(failure.to_string())),
        &[],
    );
    ExitCode::FAILURE
}

struct SetUp {
    shares: Option<(Pid, Channel)>,
    cpu_information: Vec<u8>,
}

/// Everything that needs no machine yet, so that it can be done before there is one.
fn set_up(channel: &Channel, shares: bool) -> Result<SetUp, Failure> {
    let cpu_information = first_cpu();
    let shares = if shares {
        let (specs, directories) = receive_shares(channel)?;
        Some(shares::spawn(&specs, directories)?)
    } else {
        None
    };
    jail::become_nobody()?;
    jail::unshare()?;
    Ok(SetUp {
        shares,
        cpu_information,
    })
}

fn run(channel: Channel, set_up: SetUp) -> ExitCode {
    // The child reads from it that this process has ended.
    let (lifeline, holder) = match io::pipe().while_doing("make a pipe") {
        Ok(ends) => ends,
        Err(failure) => return fail(&channel, &failure),
    };
    // SAFETY: this process has a single thread, so the child may do everything.
    match unsafe { fork() }.while_doing("make the machine's process") {
        Ok(ForkResult::Child) => {
            let SetUp {
                shares,
                cpu_information,
            } = set_up;
            drop(holder);
            let shares = shares.map(|(_, channel)| channel);
            machine::main(&channel, shares, &cpu_information, &lifeline)
        }
        Ok(ForkResult::Parent { child }) => {
            drop(lifeline);
            let shares = set_up.shares.map(|(pid, _)| pid);
            let end = match announce(&channel, child, shares) {
                Ok(end) => wait(&channel, &end, child, shares),
                Err(failure) => fail(&channel, &failure),
            };
            drop(holder);
            end
        }
        Err(failure) => fail(&channel, &failure),
    }
}

/// Tell the creator how to find the other processes. Returns a descriptor that tells when
/// the second process ends.
fn announce(channel: &Channel, child: Pid, shares: Option<Pid>) -> Result<OwnedFd, Failure> {
    let what = "watch the machine's process";
    let end = fds::pidfd(child).while_doing(what)?;
    channel
        .send(&Report::Child, &[end.as_fd()])
        .map_err(Failure::Control)?;
    if let Some(shares) = shares {
        let end = fds::pidfd(shares).while_doing(what)?;
        channel
            .send(&Report::Child, &[end.as_fd()])
            .map_err(Failure::Control)?;
    }
    jail::drop_capabilities()?;
    jail::confine(Role::Waiter)?;
    Ok(end)
}

/// The rest of the first process's life. Unlike the second it does nothing that a guest
/// could hold up, so that the end of the creator always ends the machine.
fn wait(channel: &Channel, end: &OwnedFd, child: Pid, shares: Option<Pid>) -> ExitCode {
    let mut fds = [
        // A hang-up is always told.
        PollFd::new(channel.as_fd(), PollFlags::empty()),
        PollFd::new(end.as_fd(), PollFlags::POLLIN),
    ];
    while matches!(
        poll(&mut fds, PollTimeout::NONE),
        Err(nix::errno::Errno::EINTR)
    ) {}
    // Does nothing when it has ended by itself.
    let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
    let status = wait_for(child);
    if let Some(shares) = shares {
        // It ends by itself when the machine's process has: their channel is closed.
        wait_for(shares);
    }
    match status {
        Some(WaitStatus::Exited(_, code)) => ExitCode::from(code as u8),
        Some(WaitStatus::Signaled(_, signal, _)) => end_like(signal),
        _ => ExitCode::FAILURE,
    }
}

fn wait_for(pid: Pid) -> Option<WaitStatus> {
    loop {
        match waitpid(pid, None) {
            Ok(end @ (WaitStatus::Exited(..) | WaitStatus::Signaled(..))) => return Some(end),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// End by the signal that ended the child, so that the creator sees it.
fn end_like(signal: Signal) -> ! {
    // It fails for no signal that a process can die of; some do not end a process by
    // themselves.
    let _ = nix::sys::signal::raise(signal);
    std::process::exit(128 + signal as i32)
}

/// What to share, and the directories.
fn receive_shares(channel: &Channel) -> Result<(Vec<ShareSpec>, Vec<OwnedFd>), Failure> {
    let first = channel.receive::<Command>().map_err(Failure::Control)?;
    let Some((Command::Shares(specs), _)) = first else {
        return Err(Failure::Launch);
    };
    let directories = receive_descriptors(channel, specs.len())?;
    Ok((specs, directories))
}

/// The launch message and all of its descriptors; none when the creator wants no machine.
fn receive_launch(channel: &Channel) -> Result<Option<(LaunchSpec, LaunchFiles)>, Failure> {
    match channel.receive::<Command>().map_err(Failure::Control)? {
        Some((Command::Launch(spec), _)) => {
            let fds = receive_descriptors(channel, spec.descriptors())?;
            let files = LaunchFiles::from_vec(&spec, fds).ok_or(Failure::Launch)?;
            Ok(Some((spec, files)))
        }
        Some(_) => Err(Failure::Launch),
        None => Ok(None),
    }
}

fn receive_descriptors(channel: &Channel, count: usize) -> Result<Vec<OwnedFd>, Failure> {
    let mut fds = Vec::new();
    while fds.len() < count {
        match channel.receive::<Command>().map_err(Failure::Control)? {
            Some((Command::Descriptors, more)) if !more.is_empty() => fds.extend(more),
            _ => return Err(Failure::Launch),
        }
    }
    Ok(fds)
}

/// What the host says about its first CPU; user-mode Linux takes the CPU's features from it.
fn first_cpu() -> Vec<u8> {
    let mut text = Vec::new();
    // Without it the guest just knows less about its CPU.
    if let Ok(file) = File::open("/proc/cpuinfo") {
        let _ = file.take(4096).read_to_end(&mut text);
    }
    text
}
