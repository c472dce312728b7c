//! `serve`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::serve::{self, Options, Remote};
use crate::settings::Settings;
use crate::store::Paths;

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where docker's clients find it; hull.sock in the run directory where nobody says
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Serve on an address instead, for clients whose certificate the authority has signed
    #[arg(
        long,
        value_name = "HOST:PORT",
        conflicts_with = "socket",
        requires_all = ["tlscacert", "tlscert", "tlskey"]
    )]
    tcp: Option<String>,
    /// Certificate of the authority that signs clients' certificates
    #[arg(long, value_name = "FILE", requires = "tcp")]
    tlscacert: Option<PathBuf>,
    /// The server's certificate
    #[arg(long, value_name = "FILE", requires = "tcp")]
    tlscert: Option<PathBuf>,
    /// The key of the server's certificate
    #[arg(long, value_name = "FILE", requires = "tcp")]
    tlskey: Option<PathBuf>,
}

impl Serve {
    fn remote(&self) -> Option<Remote> {
        Some(Remote {
            address: self.tcp.clone()?,
            authority: self.tlscacert.clone()?,
            certificate: self.tlscert.clone()?,
            key: self.tlskey.clone()?,
        })
    }
}

/// `serve`.
pub fn run(args: &Serve) -> anyhow::Result<ExitCode> {
    let options = Options {
        paths: Paths::from_env()?,
        settings: Settings::load()?,
        socket: args.socket.clone(),
        remote: args.remote(),
    };
    let verify = match options.remote {
        Some(_) => " and DOCKER_TLS_VERIFY=1",
        None => "",
    };
    serve::run(options, |address| {
        eprintln!("hull: serving the Docker Engine API, set DOCKER_HOST={address}{verify}");
    })?;
    Ok(ExitCode::SUCCESS)
}
