//! The process that holds the networks: one per state directory, started by the first
//! container that needs one and gone soon after the last.
//!
//! It owns a user namespace and a network namespace in it, so it needs no right on the host.
//! Each network is a bridge there, each interface of a guest a TAP device on it, whose other
//! end goes to the guest's machine. A supervisor holds a connection for as long as its
//! container runs: that connection is the container's link, and its end takes everything of
//! the container out again. `pasta` leads outside, published ports are carried in from
//! sockets that supervisors made on the host.
//!
//! It is started with the listening socket as standard input and the lock that says "there is
//! a holder" as standard output, so nobody waits for it to be ready to connect.

mod dns;
mod expressions;
mod links;
mod names;
mod namespace;
mod netlink;
mod outside;
mod proxy;
mod serve;
mod space;
mod tap;
mod walls;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::store::Paths;
use names::Names;
use outside::Outside;
use space::Space;

/// The hidden subcommand that the binary dispatches to [`main`].
pub const SUBCOMMAND: &str = "__hold-networks";

/// Runs a holder to its end.
pub fn main() -> ExitCode {
    match hold() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hull networks: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn hold() -> anyhow::Result<()> {
    // Fails only for a process that leads a group already, which is as good.
    let _ = nix::unistd::setsid();
    let (listener, lock) = take_over_stdio().context("taking over the starter's socket")?;
    let paths = Paths::from_env()?;
    // A connection is a descriptor or two; what is allowed has to do.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    let space = open(&paths);
    serve::run(listener, &paths, space)?;
    drop(lock);
    Ok(())
}

/// Everything that exists before the first container is linked.
#[derive(Debug)]
struct Opened {
    space: Space,
    names: Names,
    host: namespace::Host,
    outside: Outside,
}

/// Enters the namespaces and prepares them; why it could not is told to every supervisor.
fn open(paths: &Paths) -> Result<Opened, String> {
    let prepare = || {
        namespace::enter().context("entering a user namespace")?;
        let host = namespace::Host::start().context("starting a thread")?;
        namespace::enter_network().context("entering a network namespace")?;
        let network = namespace::name_network(&paths.holder_dir().join("namespace"))
            .context("naming the network namespace")?;
        let outside = Outside::start(host.clone(), network);
        let names = Names::default();
        let space = Space::new(names.clone()).context("preparing the network namespace")?;
        Ok::<_, anyhow::Error>(Opened {
            space,
            names,
            host,
            outside,
        })
    };
    prepare().map_err(|error| format!("{error:#}"))
}

/// Moves the socket and the lock out of descriptors 0 and 1, which become `/dev/null` so that
/// no child inherits them.
fn take_over_stdio() -> io::Result<(UnixListener, OwnedFd)> {
    let listener = io::stdin().as_fd().try_clone_to_owned()?;
    let lock = io::stdout().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok((UnixListener::from(listener), lock))
}
