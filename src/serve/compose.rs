//! Handing over to docker-compose, which then finds a server to talk to.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::{env, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::default_socket;
use crate::store::Paths;

/// Where docker's plugins are installed.
const PLUGINS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];
const NAME: &str = "docker-compose";

/// Why compose could not be handed over to.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// It is not there.
    #[error(
        "docker-compose 2 is not installed: install the package docker-compose-v2, docker-compose-plugin or docker-compose (2 or newer), or put the program into ~/.docker/cli-plugins"
    )]
    Missing,
    /// No server could be started for it.
    #[error("starting hull serve for docker-compose: {0}")]
    Serve(#[source] io::Error),
    /// It cannot be started.
    #[error("starting {path}: {cause}")]
    Start {
        /// The program.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// Runs docker-compose with `arguments`, on a server of its own where none listens.
pub fn run(paths: &Paths, arguments: &[OsString]) -> Result<ExitStatus, ComposeError> {
    let program = find().ok_or(ComposeError::Missing)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(ComposeError::Serve)?;
    let common = default_socket(paths);
    let (socket, server) = match UnixStream::connect(&common) {
        Ok(_) => (common, None),
        Err(_) => {
            // Its own, which no other command's end takes away.
            let name = format!("compose-{}.sock", std::process::id());
            let socket = paths.run.join(name);
            let server = Server::start(&socket).map_err(ComposeError::Serve)?;
            (socket, Some(server))
        }
    };
    let mut command = tokio::process::Command::new(&program);
    command
        .args(arguments)
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        // The builder that is served.
        .env("DOCKER_BUILDKIT", "0")
        .env_remove("DOCKER_CONTEXT");
    let ended = runtime.block_on(follow(command));
    drop(server);
    ended.map_err(|cause| ComposeError::Start {
        path: program,
        cause,
    })
}

/// Waits for docker-compose. A terminal's interrupts reach it by themselves, and it may stop its
/// containers then, for which the server has to stay; what only this process gets is passed on.
async fn follow(mut command: tokio::process::Command) -> io::Result<ExitStatus> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut child = command.spawn()?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    loop {
        tokio::select! {
            ended = child.wait() => return ended,
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {
                if let Some(pid) = pid {
                    // One that has just ended needs no end.
                    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                }
            }
        }
    }
}

/// The newest kind of docker-compose that is installed, if it is the second or later.
fn find() -> Option<PathBuf> {
    let home = |name: &str| env::var_os(name).map(PathBuf::from);
    let own = home("DOCKER_CONFIG").or_else(|| home("HOME").map(|home| home.join(".docker")));
    let plugins = own.map(|own| own.join("cli-plugins")).into_iter();
    let plugins = plugins.chain(PLUGINS.map(PathBuf::from));
    let path = env::var_os("PATH").unwrap_or_default();
    let programs = env::split_paths(&path).collect::<Vec<_>>();
    let mut candidates = plugins.chain(programs).map(|place| place.join(NAME));
    candidates.find(|program| program.is_file() && is_second(program))
}

fn is_second(program: &Path) -> bool {
    let shown = Command::new(program).args(["version", "--short"]).output();
    let text = shown.map(|shown| String::from_utf8_lossy(&shown.stdout).into_owned());
    let text = text.unwrap_or_default();
    let major = text.trim().trim_start_matches('v').split('.').next();
    major.and_then(|major| major.parse::<u32>().ok()) >= Some(2)
}

/// A server that lives as long as docker-compose does; containers stay.
struct Server {
    process: Child,
    socket: PathBuf,
}

impl Server {
    fn start(socket: &Path) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args(["serve", "--socket"])
            .arg(socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Out of reach of the terminal's signals.
            .process_group(0)
            .spawn()?;
        let errors = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let server = Self {
            process: child,
            socket: socket.to_owned(),
        };
        let mut errors = BufReader::new(errors).lines();
        loop {
            match errors.next().transpose()? {
                // It says where it serves once it does.
                Some(line) if line.contains("DOCKER_HOST=") => break,
                Some(line) => eprintln!("{line}"),
                None => return Err(io::Error::other("it ended at once")),
            }
        }
        thread::spawn(move || {
            for line in errors.map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            // One that has ended already needs no end.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.process.wait();
        // The socket goes with its server; nobody else uses the lock beside it.
        let mut lock = self.socket.clone().into_os_string();
        lock.push(".lock");
        let _ = std::fs::remove_file(lock);
    }
}
