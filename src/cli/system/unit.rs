//! `system unit`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::cli::context::Context;
use crate::serve::default_socket;
use crate::system::units;

/// What hull is told by the environment, which a unit has to tell it again.
const ENVIRONMENT: [&str; 3] = ["HULL_ROOT", "HULL_CONFIG", "HULL_ASSETS"];

/// Options of `system unit`.
#[derive(Debug, Args)]
pub struct Unit {
    /// Which one
    #[arg(value_enum, default_value = "resume")]
    which: Which,
}

/// What can be printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// Resumes containers at boot and suspends them at shutdown
    Resume,
    /// Listens for docker's clients and starts the server for the first
    Socket,
    /// The server that the socket starts
    Serve,
}

/// `system unit`.
pub fn run(args: &Unit, context: &Context) -> anyhow::Result<ExitCode> {
    let set = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
    let environment: Vec<_> = ENVIRONMENT.into_iter().filter_map(set).collect();
    let unit = match args.which {
        Which::Resume => units::Unit::Resume,
        Which::Socket => units::Unit::Socket,
        Which::Serve => units::Unit::Serve,
    };
    let setting = units::Setting {
        program: &std::env::current_exe()?,
        environment: &environment,
        superuser: nix::unistd::geteuid().is_root(),
        socket: &default_socket(context.store.paths()),
    };
    print!("{}", unit.text(&setting));
    Ok(ExitCode::SUCCESS)
}
