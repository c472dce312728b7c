//! `ui`.

use std::process::ExitCode;

use clap::Args;

use crate::cli::format::print;
use crate::serve;
use crate::settings::Settings;
use crate::store::Paths;

/// Options of `ui`.
#[derive(Debug, Args)]
pub struct Ui {
    /// The port on 127.0.0.1; a free one where nobody says
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    port: u16,
}

/// `ui`.
pub fn run(args: &Ui) -> anyhow::Result<ExitCode> {
    let (paths, settings) = (Paths::from_env()?, Settings::load()?);
    serve::ui::run(paths, settings, args.port, |address| {
        // Who reads it not does not need it.
        let _ = print(&format!("{address}\n"));
    })?;
    Ok(ExitCode::SUCCESS)
}
