//! `hull serve`: the Docker Engine API over the operations that the command line has, so that
//! docker, compose and every SDK drive hull.
//!
//! It owns nothing: containers belong to their supervisors, state to the store. Killing it ends
//! the conversations that it has, and nothing else. `listen` takes connections, `router` finds
//! who answers, the other modules answer; `state` is what they share.

mod activation;
mod body;
mod build;
mod bus;
pub mod compose;
mod containers;
mod error;
mod exec;
mod filters;
mod hijack;
mod images;
mod lines;
mod listen;
mod networks;
mod readiness;
mod relay;
mod reply;
mod request;
mod router;
mod state;
mod system;
mod tls;
pub mod ui;
mod upload;
mod usage;
mod volumes;
mod watch;
mod websocket;

use std::path::PathBuf;

use crate::settings::Settings;
use crate::store::{Paths, StoreError};

pub use tls::TlsError;

/// The newest version of the API that is spoken.
pub const API_VERSION: (u32, u32) = (1, 50);
/// The oldest one.
pub const MIN_API_VERSION: (u32, u32) = (1, 24);

/// Why it cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody else does.
    #[error("{0} is being served already, end that hull serve or give another --socket")]
    Taken(PathBuf),
    /// A path or an address that a socket cannot have.
    #[error("cannot listen on {place}: {cause}")]
    Bind {
        /// The path or the address.
        place: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// What systemd handed over is no listening socket.
    #[error("the socket that was handed over in LISTEN_FDS cannot be used: {0}")]
    Activation(std::io::Error),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The process cannot be set up.
    #[error("starting the server: {0}")]
    Start(#[from] std::io::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What to serve, and where.
#[derive(Debug)]
pub struct Options {
    /// The state directory.
    pub paths: Paths,
    /// The user's settings.
    pub settings: Settings,
    /// The socket; where there is none, [`default_socket`].
    pub socket: Option<PathBuf>,
    /// An address instead of a socket.
    pub remote: Option<Remote>,
}

/// An address, and the files of the certificates without which nobody is let in there.
#[derive(Debug, Clone)]
pub struct Remote {
    /// `HOST:PORT`.
    pub address: String,
    /// Who signs clients' certificates.
    pub authority: PathBuf,
    /// The server's own certificate, and those that lead from it to its authority.
    pub certificate: PathBuf,
    /// The key of that.
    pub key: PathBuf,
}

/// Where the socket is when nobody says otherwise.
pub fn default_socket(paths: &Paths) -> PathBuf {
    paths.run.join("hull.sock")
}

/// Serves until it is told to end; `ready` hears where, as clients write it in `DOCKER_HOST`.
pub fn run(options: Options, ready: impl FnOnce(&str)) -> Result<(), ServeError> {
    listen::run(options, ready)
}
