//! Commands about images, under docker's names: `pull` and `image pull` are the same.

mod history;
mod images;
mod import;
pub mod inspect;
mod load;
mod login;
mod progress;
mod prune;
pub mod pull;
mod push;
mod rmi;
mod save;
pub mod stack;
mod tag;
mod tree;

use std::process::ExitCode;

use clap::Subcommand;

use super::context::Context;

pub use progress::{Bars, Lines, Stream, reporter};
pub use prune::removed_lines;

/// Commands about images at the top level.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Download an image from a registry
    Pull(pull::Args),
    /// Upload an image to a registry
    Push(push::Args),
    /// List images
    Images(images::Args),
    /// Remove one or more images
    Rmi(rmi::Args),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(tag::Args),
    /// Show the history of an image
    History(history::Args),
    /// Load images from a tar archive or STDIN
    Load(load::Args),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(save::Args),
    /// Import the contents from a tarball to create a filesystem image
    Import(import::Args),
    /// Authenticate to a registry
    Login(login::Login),
    /// Log out from a registry
    Logout(login::Logout),
}

/// Commands under `image`.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Group {
    /// Build an image from a Dockerfile
    Build(Box<super::build::Args>),
    /// Download an image from a registry
    Pull(pull::Args),
    /// Upload an image to a registry
    Push(push::Args),
    /// List images
    #[command(visible_alias = "list")]
    Ls(images::Args),
    /// Remove one or more images
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(tag::Args),
    /// Show the history of an image
    History(history::Args),
    /// Load images from a tar archive or STDIN
    Load(load::Args),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(save::Args),
    /// Import the contents from a tarball to create a filesystem image
    Import(import::Args),
    /// Display detailed information on one or more images
    Inspect(inspect::Args),
    /// Remove unused images
    Prune(prune::Args),
    /// Make an image of several: the layers of all on top of each other
    Stack(stack::Args),
}

/// Runs a command of the top level.
pub fn run(command: Command, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Pull(args) => pull::run(&args, context),
        Command::Push(args) => push::run(&args, context),
        Command::Images(args) => images::run(&args, context),
        Command::Rmi(args) => rmi::run(&args, context),
        Command::Tag(args) => tag::run(&args, context),
        Command::History(args) => history::run(&args, context),
        Command::Load(args) => load::run(&args, context),
        Command::Save(args) => save::run(&args, context),
        Command::Import(args) => import::run(&args, context),
        Command::Login(args) => login::login(&args, context),
        Command::Logout(args) => login::logout(&args),
    }
}

/// Runs a command under `image`.
pub fn run_group(command: Group, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        Group::Build(args) => super::build::run(&args, context),
        Group::Pull(args) => pull::run(&args, context),
        Group::Push(args) => push::run(&args, context),
        Group::Ls(args) => images::run(&args, context),
        Group::Rm(args) => rmi::run(&args, context),
        Group::Tag(args) => tag::run(&args, context),
        Group::History(args) => history::run(&args, context),
        Group::Load(args) => load::run(&args, context),
        Group::Save(args) => save::run(&args, context),
        Group::Import(args) => import::run(&args, context),
        Group::Inspect(args) => inspect::run(&args, context),
        Group::Prune(args) => prune::run(&args, context),
        Group::Stack(args) => stack::run(&args, context),
    }
}

#[cfg(test)]
mod tests;
