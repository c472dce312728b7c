//! `serve`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::serve::{self, Options};
use crate::settings::Settings;
use crate::store::Paths;

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where docker's clients find it; hull.sock in the run directory where nobody says
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// `serve`.
pub fn run(args: &Serve) -> anyhow::Result<ExitCode> {
    let options = Options {
        paths: Paths::from_env()?,
        settings: Settings::load()?,
        socket: args.socket.clone(),
    };
    serve::run(options, |socket| {
        eprintln!("hull: serving the Docker Engine API, set DOCKER_HOST=unix://{socket}");
    })?;
    Ok(ExitCode::SUCCESS)
}
