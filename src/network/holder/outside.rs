//! The way outside: pasta, which turns what leaves the namespace into connections of an
//! ordinary process of the host.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::sync::watch;

use super::namespace::Host;

/// The interface that leads outside.
pub const INTERFACE: &str = "outside";

/// The program.
const PROGRAM: &str = "pasta";

/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long after its end it is started again.
const AGAIN: Duration = Duration::from_secs(1);

/// How much of what it says is kept, in bytes.
const MEMORY: usize = 8192;

const RTMGRP_IPV4_ROUTE: u32 = libc::RTMGRP_IPV4_ROUTE as u32;

/// Why there is no way outside.
#[derive(Debug, thiserror::Error)]
pub enum NoOutside {
    /// The program is missing.
    #[error("containers do not reach the outside: pasta is not installed, install passt")]
    Missing,
    /// It ended.
    #[error("containers do not reach the outside: pasta ended: {0}")]
    Ended(String),
    /// It could not be started or did not get ready.
    #[error("containers do not reach the outside: starting pasta: {0}")]
    Start(#[from] io::Error),
}

/// What is known of the way outside: nothing before it has been tried, then what is wrong with
/// it, if anything.
pub type State = Option<Option<String>>;

/// The way outside of the calling thread's namespace, as long as the holder lives.
#[derive(Debug)]
pub struct Outside {
    host: Host,
    network: PathBuf,
    first: Result<Pasta, NoOutside>,
}

impl Outside {
    /// Begins to open it for the namespace with this name.
    pub fn start(host: Host, network: PathBuf) -> Self {
        let first = Pasta::start(&host, &network);
        Self {
            host,
            network,
            first,
        }
    }

    /// Keeps it open and tells how it is.
    pub fn keep(self, state: watch::Sender<State>) -> io::Result<()> {
        let name = "outside".to_owned();
        let thread = thread::Builder::new().name(name);
        thread.spawn(move || self.run(&state)).map(drop)
    }

    fn run(self, state: &watch::Sender<State>) {
        let mut attempt = self.first;
        loop {
            let end = match attempt {
                Ok(mut pasta) => pasta.wait().map(|()| {
                    state.send_replace(Some(None));
                    pasta.end()
                }),
                Err(problem) => Err(problem),
            };
            match end {
                Ok(last) => {
                    eprintln!("hull networks: pasta ended: {last}, starting it again");
                    state.send_replace(None);
                }
                Err(problem) => {
                    state.send_replace(Some(Some(problem.to_string())));
                    if matches!(problem, NoOutside::Missing) {
                        return;
                    }
                }
            }
            thread::sleep(AGAIN);
            attempt = Pasta::start(&self.host, &self.network);
        }
    }
}

/// A running pasta. It ends with the holder.
#[derive(Debug)]
struct Pasta {
    child: Child,
    errors: ChildStderr,
    said: String,
    routes: OwnedFd,
}

impl Pasta {
    fn start(host: &Host, network: &Path) -> Result<Self, NoOutside> {
        // Before it starts, so that no change is missed.
        let routes = watch_routes()?;
        let mut command = Command::new(PROGRAM);
        command
            .args(["--config-net", "-q", "-f", "--netns-only", "--netns"])
            .arg(network)
            .args(["-I", INTERFACE, "-m", "65520"])
            .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"])
            // Its gateway is no way to the host's loopback.
            .arg("--no-map-gw")
            .args([
                "-a",
                "169.254.2.1",
                "-n",
                "255.255.255.0",
                "-g",
                "169.254.2.2",
            ])
            // It answers who asks for the way out; nobody asks for an address.
            .args(["--no-dhcp", "--no-dhcpv6", "--no-ra"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let spawned = host.run(move || {
            // SAFETY: between fork and exec this makes one system call and allocates nothing.
            // The thread that is its parent lives as long as the holder.
            unsafe {
                command.pre_exec(|| Ok(prctl::set_pdeathsig(Some(Signal::SIGKILL))?));
            }
            command.spawn()
        });
        let mut child = spawned.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NoOutside::Missing,
            _ => NoOutside::Start(error),
        })?;
        let errors = child.stderr.take();
        let errors = errors.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(Self {
            child,
            errors,
            said: String::new(),
            routes,
        })
    }

    /// Waits until packets find their way.
    fn wait(&mut self) -> Result<(), NoOutside> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if has_default_route()? {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [
                PollFd::new(self.routes.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.errors.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, left) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
            let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
            let (routes, errors) = (ready(&fds[0]), ready(&fds[1]));
            if routes {
                let mut message = [0; 4096];
                // What changed is read from the table above.
                let _ = recv(
                    self.routes.as_raw_fd(),
                    &mut message,
                    MsgFlags::MSG_DONTWAIT,
                );
            }
            if errors && self.listen()? == 0 {
                return Err(NoOutside::Ended(self.last_words()));
            }
        }
    }

    /// Waits for its end; what it said last.
    fn end(mut self) -> String {
        while self.listen().is_ok_and(|len| len > 0) {}
        self.last_words()
    }

    /// Takes in some of what it says; nothing at its end.
    fn listen(&mut self) -> io::Result<usize> {
        let mut text = [0; 1024];
        let len = self.errors.read(&mut text)?;
        let heard = text.get(..len).unwrap_or_default();
        self.said.push_str(&String::from_utf8_lossy(heard));
        let excess = self.said.len().saturating_sub(MEMORY);
        self.said.drain(..self.said.ceil_char_boundary(excess));
        Ok(len)
    }

    fn last_words(&self) -> String {
        let last = self.said.lines().last();
        last.unwrap_or("without a word").to_owned()
    }
}

impl Drop for Pasta {
    fn drop(&mut self) {
        // Fails only when it is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket that becomes readable when this namespace's routes change.
fn watch_routes() -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, RTMGRP_IPV4_ROUTE))?;
    Ok(fd)
}

/// Whether this thread's namespace has a default route by [`INTERFACE`].
fn has_default_route() -> io::Result<bool> {
    let table = std::fs::read_to_string("/proc/thread-self/net/route")?;
    Ok(table.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(INTERFACE) && words.next() == Some("00000000")
    }))
}
