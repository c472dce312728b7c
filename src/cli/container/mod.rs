//! Commands about containers.

mod attach;
mod boot_report;
mod commit;
mod cp;
mod diff;
mod exec;
mod export;
mod flags;
mod health;
mod inspect;
mod kernel_log;
mod limits;
mod logs;
mod network_flags;
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
pub use flags::ulimit;
pub use inspect::{Inspect, InspectContainers, run as inspect};
pub use limits::ProcessorFlags;
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
    Update(Box<Update>),
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

/// Carries a command under `container` out.
pub fn run_group(group: Group) -> anyhow::Result<ExitCode> {
    match group {
        Group::Command(command) => run(command),
        Group::Inspect(args) => inspect::containers(&args, &Context::open()?),
        Group::Prune(args) => prune::run(&args, &Context::open()?),
    }
}

/// Carries a command out.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    let open = Context::open;
    match command {
        Command::Run(args) => run::run(&args),
        Command::Create(args) => run::create(&args, &open()?),
        Command::Start(args) => start::run(&args, &open()?),
        Command::Attach(args) => attach::run(&args, &open()?),
        Command::Exec(args) => exec::run(&args, &open()?),
        Command::Port(args) => port::run(&args, &open()?),
        Command::Ps(args) => ps::run(&args, &open()?),
        Command::Logs(args) => logs::run(&args, &open()?),
        Command::Stop(args) => stop::stop(&args, &open()?),
        Command::Kill(args) => stop::kill(&args, &open()?),
        Command::Wait(args) => stop::wait(&args, &open()?),
        Command::Rename(args) => rename::rename(&args, &open()?),
        Command::Restart(args) => stop::restart(&args, &open()?),
        Command::Rm(args) => stop::rm(&args, &open()?),
        Command::Pause(args) => pause::run(&args, true, &open()?),
        Command::Unpause(args) => pause::run(&args, false, &open()?),
        Command::Top(args) => top::run(&args, &open()?),
        Command::Stats(args) => stats::run(&args, &open()?),
        Command::Update(args) => update::run(&args, &open()?),
        Command::Export(args) => export::run(&args, &open()?),
        Command::Cp(args) => cp::run(&args, &open()?),
        Command::Diff(args) => diff::run(&args, &open()?),
        Command::Commit(args) => commit::run(&args, &open()?),
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
