//! Commands about containers.

mod attach;
mod commit;
mod cp;
mod diff;
mod exec;
mod export;
mod flags;
mod health;
mod inspect;
mod limits;
mod logs;
pub mod network_flags;
mod pause;
mod port;
mod prune;
mod ps;
mod rename;
mod run;
mod start;
mod stats;
mod stop;
mod top;
mod update;

pub use attach::Attach;
pub use commit::Commit;
pub use cp::Cp;
pub use diff::Diff;
pub use exec::Exec;
pub use export::Export;
pub use inspect::{Inspect, InspectContainers, run as inspect};
pub use logs::Logs;
pub use pause::Pause;
pub use port::Port;
pub use prune::Prune;
pub use ps::{Ps, row};
pub use rename::Rename;
pub use run::{Create, Run};
pub use start::Start;
pub use stats::Stats;
pub use stop::{Kill, Rm, Stop, Wait};
pub use top::Top;
pub use update::Update;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::context::Context;
use super::failure::sentence;
use crate::container::launch::Waiting;

/// Everything that can be asked of containers; also reachable as `hull container …`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Create and start a container
    #[command(disable_help_flag = true)]
    Run(Box<Run>),
    /// Create a container without starting it
    #[command(disable_help_flag = true)]
    Create(Box<Create>),
    /// Start containers
    Start(Start),
    /// Join a running container's first process
    Attach(Attach),
    /// Run a command in a running container
    Exec(Box<Exec>),
    /// Show where the host offers a container's ports
    Port(Port),
    /// List containers
    #[command(visible_alias = "ls", alias = "list")]
    Ps(Ps),
    /// Show what a container wrote
    Logs(Logs),
    /// Stop containers: their stop signal, a while, then SIGKILL
    Stop(Stop),
    /// Send a signal to containers
    Kill(Kill),
    /// Wait until containers end and print their exit codes
    Wait(Wait),
    /// Remove containers
    Rm(Rm),
    /// Give a container another name
    Rename(Rename),
    /// Stop containers and start them again
    Restart(Stop),
    /// Stop all processes of containers where they are
    Pause(Pause),
    /// Let paused containers go on
    Unpause(Pause),
    /// Show the processes of a container
    Top(Top),
    /// Show what containers use
    Stats(Stats),
    /// Change limits and restart policy of containers
    Update(Update),
    /// Write a container's file system as a tar archive
    Export(Export),
    /// Copy files between a container and the host
    Cp(Cp),
    /// Show what a container changed in its image's files
    Diff(Diff),
    /// Make an image of what a container changed
    Commit(Commit),
}

/// The options of a command that runs a program; they end at its first operand.
pub fn options_of(name: &str) -> Option<clap::Command> {
    let command = clap::Command::new("program");
    match name {
        "run" => Some(Run::augment_args(command)),
        "create" => Some(Create::augment_args(command)),
        "exec" => Some(Exec::augment_args(command)),
        _ => None,
    }
}

/// Commands under `container`: the same, and some that mean something else elsewhere.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// What `container` shares with the top level.
    #[command(flatten)]
    Command(Command),
    /// Show everything about containers
    Inspect(InspectContainers),
    /// Remove all containers that do not run
    Prune(Prune),
}

impl Group {
    /// As [`Command::supervisor`].
    pub fn supervisor(&self) -> anyhow::Result<Option<Waiting>> {
        match self {
            Self::Command(command) => command.supervisor(),
            _ => Ok(None),
        }
    }
}

/// Carries a command under `container` out.
pub fn run_group(
    group: Group,
    supervisor: Option<Waiting>,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    match group {
        Group::Command(command) => run(command, supervisor, context),
        Group::Inspect(args) => inspect::containers(&args, context),
        Group::Prune(args) => prune::run(&args, context),
    }
}

impl Command {
    /// A supervisor for the container that the command will start: what can be made before
    /// the state directory is even open.
    pub fn supervisor(&self) -> anyhow::Result<Option<Waiting>> {
        match self {
            Self::Run(_) => Ok(Some(run::supervisor()?)),
            _ => Ok(None),
        }
    }
}

/// Carries a command out, `run` in the supervisor that was made for it.
pub fn run(
    command: Command,
    supervisor: Option<Waiting>,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(&args, supervisor, context),
        Command::Create(args) => run::create(&args, context),
        Command::Start(args) => start::run(&args, context),
        Command::Attach(args) => attach::run(&args, context),
        Command::Exec(args) => exec::run(&args, context),
        Command::Port(args) => port::run(&args, context),
        Command::Ps(args) => ps::run(&args, context),
        Command::Logs(args) => logs::run(&args, context),
        Command::Stop(args) => stop::stop(&args, context),
        Command::Kill(args) => stop::kill(&args, context),
        Command::Wait(args) => stop::wait(&args, context),
        Command::Rename(args) => rename::rename(&args, context),
        Command::Restart(args) => stop::restart(&args, context),
        Command::Rm(args) => stop::rm(&args, context),
        Command::Pause(args) => pause::run(&args, true, context),
        Command::Unpause(args) => pause::run(&args, false, context),
        Command::Top(args) => top::run(&args, context),
        Command::Stats(args) => stats::run(&args, context),
        Command::Update(args) => update::run(&args, context),
        Command::Export(args) => export::run(&args, context),
        Command::Cp(args) => cp::run(&args, context),
        Command::Diff(args) => diff::run(&args, context),
        Command::Commit(args) => commit::run(&args, context),
    }
}

/// Does something for each name: errors are printed and do not stop the rest; as docker, the
/// exit code is 1 when any failed.
fn for_each(
    names: &[String],
    mut act: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        if let Err(error) = act(name) {
            eprintln!("hull: {}", sentence(&error));
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
