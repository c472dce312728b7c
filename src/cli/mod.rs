//! The command line: it parses, asks the library, prints. No logic lives here.

pub mod build;
mod compare;
mod compose;
mod confirm;
pub mod container;
pub mod context;
mod events;
pub mod failure;
pub mod format;
mod hash;
pub mod image;
mod info;
mod kernel;
mod layers;
mod missing;
mod network;
mod order;
mod serve;
pub mod session;
mod system;
pub mod terminal;
mod ui;
mod volume;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use context::Context;
use failure::Failure;

/// docker run, but every container is its own microVM, of any CPU architecture.
#[derive(Debug, Parser)]
#[command(
    name = "hull",
    version,
    propagate_version = false,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    #[command(flatten)]
    Container(container::Command),
    /// Manage containers
    #[command(subcommand, name = "container")]
    Containers(container::Group),
    #[command(flatten)]
    Image(image::Command),
    /// Manage images
    #[command(subcommand, name = "image")]
    Images(image::Group),
    /// Build an image from a Dockerfile
    Build(Box<build::Args>),
    /// Manage builds
    #[command(subcommand, name = "builder")]
    Builder(build::Group),
    /// Build as docker's plugin of that name does
    #[command(subcommand, name = "buildx")]
    Buildx(build::Group),
    /// Show what happens to containers, images and volumes
    Events(events::Events),
    /// Show everything about containers and images
    Inspect(container::Inspect),
    /// Manage volumes
    #[command(subcommand, name = "volume")]
    Volumes(volume::Group),
    /// Show, remove and resume everything at once
    #[command(subcommand, name = "system")]
    System(system::Group),
    /// Manage networks
    #[command(subcommand, name = "network")]
    Networks(network::Group),
    /// Hand over to docker-compose
    Compose(compose::Compose),
    /// Show an image or a container as a stack of layers
    Layers(layers::Layers),
    /// Compare a process, a container and microVMs, measured with one image
    Compare(compare::Compare),
    /// Hash the content of a directory, an image or a layer, or compare two
    Hash(hash::Hash),
    /// Serve the Docker Engine API
    Serve(serve::Serve),
    /// Serve a page for a browser on this machine
    Ui(ui::Ui),
    /// Build and list guest kernels
    Kernel(kernel::Kernel),
    /// Probe what this host can run, and explain
    Doctor(info::Doctor),
    /// Show what hull is set up with
    Info(info::Info),
    /// Show versions
    Version(info::Version),
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Parses `arguments` and carries the command out; the exit code is docker's.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let arguments = order::end_options(arguments, container::options_of);
    let parsed = match Cli::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error, &arguments),
    };
    match dispatch(parsed.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hull: {}", failure::sentence(&error));
            match error.downcast_ref::<Failure>() {
                Some(failure) => ExitCode::from(failure.code),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    let open = Context::open;
    match command {
        Command::Other(words) => missing::explain(&words),
        Command::Compose(args) => compose::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Layers(args) => layers::run(&args, &open()?),
        Command::Compare(args) => compare::run(&args, &open()?),
        Command::Hash(args) => hash::run(&args, &open()?),
        Command::Ui(args) => ui::run(&args),
        Command::Kernel(args) => kernel::run(&args),
        Command::Version(args) => info::version(&args),
        Command::Container(command) => container::run(command),
        Command::Containers(group) => container::run_group(group),
        Command::Image(command) => image::run(command, &open()?),
        Command::Images(group) => image::run_group(group, &open()?),
        Command::System(group) => system::run(&group, &open()?),
        Command::Events(args) => events::run(&args, &open()?),
        Command::Networks(group) => network::run(&group, &open()?),
        Command::Volumes(group) => volume::run(&group, &open()?),
        Command::Build(args) => build::run(&args, &open()?),
        Command::Builder(group) | Command::Buildx(group) => build::run_group(&group, &open()?),
        Command::Inspect(args) => container::inspect(&args, &open()?),
        Command::Info(args) => info::info(&args, &open()?),
        Command::Doctor(args) => info::doctor(&args, &open()?),
    }
}

/// Help goes to standard output; mistakes are one sentence and docker's 125 (run, create,
/// exec) or 1.
fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print!("{}", error.render());
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{}", error.render());
            return ExitCode::from(1);
        }
        _ => {}
    }
    if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && let Some(sentence) = missing::option_sentence(argument)
    {
        eprintln!("hull: {sentence}");
        return ExitCode::from(125);
    }
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let command = arguments
        .get(1)
        .map(|word| word.to_string_lossy().into_owned());
    let rest: Vec<&str> = text
        .lines()
        .skip(1)
        .map(str::trim)
        .take_while(|line| !line.is_empty() || first.ends_with(':'))
        .filter(|line| {
            !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more")
        })
        .collect();
    eprintln!("hull: {}", [&[first], &rest[..]].concat().join(" "));
    let command = command.unwrap_or_default();
    eprintln!("See 'hull {command} --help'.");
    let daemon = ["run", "create", "exec", "container"].contains(&command.as_str());
    ExitCode::from(if daemon { 125 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
