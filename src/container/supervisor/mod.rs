//! The process that owns one running container: its machine, its streams, its end.
//!
//! `hull` starts it with two things: as standard input a socket, on which the first frame is
//! the [`LaunchPlan`], and as standard output the locked file that says "this container is
//! running". It needs no command line to stay: other clients come over the control socket in
//! the container's run directory.

mod clients;
mod frames;
mod hub;
mod life;
mod network;
mod probe;
mod record;
mod run;
mod signals;
mod stop;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::Context as _;
use guest_agent::protocol::FrameKind;

pub use super::control::SUBCOMMAND;
use super::control::{self, LaunchPlan};
use super::cpuset;

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
    let (mut channel, lock) = take_over_stdio().context("taking over the starter's channel")?;
    let plan: LaunchPlan = control::receive(&mut channel, FrameKind::Request)?;
    if let Some(cpus) = &plan.container.config.cpuset {
        // Before the machine and every thread of this process.
        cpuset::keep_to(cpus).context("keeping to the CPUs of --cpuset-cpus")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    runtime.block_on(tasks.run_until(life::live(plan, channel, lock)))
}

/// Moves the channel and the lock out of descriptors 0 and 1, which become `/dev/null` so
/// that no child inherits them.
fn take_over_stdio() -> io::Result<(UnixStream, OwnedFd)> {
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    let lock = io::stdout().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok((UnixStream::from(channel), lock))
}
