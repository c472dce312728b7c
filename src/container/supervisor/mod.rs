//! The process that owns one running container: its machine, its streams, its end.
//!
//! `hull` starts it, perhaps before there is a container, with one thing: a socket as standard
//! input. Two descriptors come first on it, the locked file that says "this container is
//! running" and the log for the supervisor's own words, then the [`LaunchPlan`]. It needs no
//! command line to stay: other clients come over the control socket in the container's run
//! directory.

mod clients;
mod hub;
mod life;
mod network;
mod probe;
mod record;
mod run;
mod signals;
mod stop;

use std::ffi::CString;
use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::Context as _;
use guest_agent::protocol::{FrameKind, Start};
use vmm::{Machine, MachineConfig, Spare, StartError};

pub use super::control::SUBCOMMAND;
use super::control::{self, LaunchPlan};
use super::standby::{Adopted, Standby};
use super::{cpuset, descriptors};

/// Runs a supervisor to its end.
pub fn main() -> ExitCode {
    match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hull supervisor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn supervise() -> anyhow::Result<()> {
    // Fails only for a process that leads a group already, which is as good.
    let _ = nix::unistd::setsid();
    let channel = UnixStream::from(
        descriptors::take_over_stdin().context("taking over the starter's channel")?,
    );
    // Both get ready while the starter still puts the container together.
    live_in(FirstMachine::Spare(Spare::spawn()), channel)
}

/// Supervises the container that `channel` brings, in a guest that waited for one.
pub fn supervise_in(channel: UnixStream, standby: Box<Standby>) -> anyhow::Result<()> {
    live_in(FirstMachine::Standby(standby), channel)
}

fn live_in(mut first: FirstMachine, mut channel: UnixStream) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let [lock, log] = match descriptors::receive(&channel) {
        Ok(descriptors) => descriptors,
        // The starter found that there is nothing to start.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        Err(error) => return Err(error).context("receiving the container's lock"),
    };
    nix::unistd::dup2_stderr(&log)?;
    drop(log);
    let plan: LaunchPlan = control::receive(&mut channel, FrameKind::Request)?;
    name(plan.container.short_id());
    if let Some(cpus) = &plan.container.config.cpuset {
        cpuset::keep_to(cpus).context("keeping to the CPUs of --cpuset-cpus")?;
        // The one that is there already may run anywhere.
        first = FirstMachine::Spare(Spare::spawn());
    }
    let tasks = tokio::task::LocalSet::new();
    runtime.block_on(tasks.run_until(life::live(plan, first, channel, lock)))
}

/// What the first run's machine is made of.
enum FirstMachine {
    /// A process that waits for its machine.
    Spare(Result<Spare, StartError>),
    /// A booted guest.
    Standby(Box<Standby>),
}

impl FirstMachine {
    /// The machine that `config` describes, in which `start` begins, and what else there is of a
    /// guest that waited.
    fn start(self, config: &MachineConfig, start: &mut Start) -> Result<First, StartError> {
        let spare = match self {
            Self::Spare(spare) => spare,
            Self::Standby(standby) => match standby.adopt(config, start) {
                Ok(Some(adopted)) => return Ok(First::Adopted(adopted)),
                // It suits another container, or has ended.
                Ok(None) | Err(_) => Spare::spawn(),
            },
        };
        Ok(First::New(spare?.start(config)?))
    }
}

/// The first run's machine.
enum First {
    /// One that boots.
    New(Machine),
    /// One that waited.
    Adopted(Adopted),
}

/// What lists of processes show: whose supervisor it is. The kernel cuts names to 15 bytes.
pub fn name(container: &str) {
    if let Ok(name) = CString::new(format!("hull-{container}")) {
        // A name is for people only.
        let _ = nix::sys::prctl::set_name(&name);
    }
}
