//! The process that owns one running container: its machine, its streams, its end.
//!
//! `hull` starts it, perhaps before there is a container, with one thing: a socket as standard
//! input. Two descriptors come first on it, the locked file that says "this container is
//! running" and the log for the supervisor's own words, then the [`LaunchPlan`]. It needs no command line to stay: other clients come over the control socket in
//! the container's run directory.

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
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::Context as _;
use guest_agent::protocol::FrameKind;
use vmm::Spare;

pub use super::control::SUBCOMMAND;
use super::control::{self, LaunchPlan};
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
    let mut channel = take_over_stdin().context("taking over the starter's channel")?;
    // Both get ready while the starter still puts the container together.
    let mut spare = Spare::spawn();
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
        spare = Spare::spawn();
    }
    let tasks = tokio::task::LocalSet::new();
    runtime.block_on(tasks.run_until(life::live(plan, spare, channel, lock)))
}

/// What lists of processes show: whose supervisor it is. The kernel cuts names to 15 bytes.
fn name(container: &str) {
    if let Ok(name) = CString::new(format!("hull-{container}")) {
        // A name is for people only.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// Moves the channel out of descriptor 0, which becomes `/dev/null` so that no child
/// inherits it.
fn take_over_stdin() -> io::Result<UnixStream> {
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(UnixStream::from(channel))
}
