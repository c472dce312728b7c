//! `compose`.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use clap::Args;

use super::failure::Failure;
use crate::serve::compose;
use crate::store::Paths;

/// Options of `compose`: all are docker-compose's own.
#[derive(Debug, Args)]
pub struct Compose {
    /// What docker-compose is to do
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<OsString>,
}

/// `compose`.
pub fn run(args: &Compose) -> anyhow::Result<ExitCode> {
    let status = compose::run(&Paths::from_env()?, &args.arguments);
    let status = status.map_err(|error| Failure::daemon(125, error))?;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(255)))
}
