//! A supervisor's side of its container's link: finding the holder, or starting it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::holder;
use super::wire::{self, LinkReply, LinkRequest};
use crate::store::{Paths, StoreError};

/// How long the holder may take to answer; it waits for pasta, and a busy host is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a holder that is ending may take, and how often it is looked at.
const ENDING: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(2);

/// Why a container is not connected.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The holder said no.
    #[error("{0}")]
    Refused(String),
    /// The holder ended, or did not start.
    #[error("the process that holds the networks ended{0}")]
    Ended(String),
    /// The conversation broke.
    #[error("talking to the process that holds the networks: {0}")]
    Io(#[from] io::Error),
    /// The run directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A container's connection to its networks, for as long as it is kept.
#[derive(Debug)]
pub struct Link {
    /// Its end says that the holder is gone.
    pub stream: UnixStream,
    /// The host's sides of the interfaces, in order.
    pub taps: Vec<OwnedFd>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}

/// Connects a container.
pub fn establish(
    paths: &Paths,
    request: &LinkRequest,
    sockets: &[OwnedFd],
) -> Result<Link, LinkError> {
    let deadline = Instant::now() + ENDING;
    loop {
        let Some(stream) = connect(paths)? else {
            // A holder that is just ending, or one that has not come far enough yet.
            if Instant::now() > deadline {
                return Err(LinkError::Ended(last_words(paths)));
            }
            std::thread::sleep(INTERVAL);
            continue;
        };
        match ask(stream, request, sockets) {
            Err(LinkError::Io(error)) if is_end(&error) && Instant::now() < deadline => {}
            Err(LinkError::Io(error)) if is_end(&error) => {
                return Err(LinkError::Ended(last_words(paths)));
            }
            other => return other,
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// What a holder that ended wrote last.
fn last_words(paths: &Paths) -> String {
    let log = paths.holder_dir().join("holder.log");
    let log = std::fs::read_to_string(log).unwrap_or_default();
    log.lines()
        .last()
        .map_or(String::new(), |line| format!(": {line}"))
}

fn ask(
    mut stream: UnixStream,
    request: &LinkRequest,
    sockets: &[OwnedFd],
) -> Result<Link, LinkError> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    wire::send(&mut stream, request)?;
    let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    wire::send_descriptors(&stream, &sockets)?;
    let reply: LinkReply = wire::receive(&mut stream)?;
    if let Some(error) = reply.error {
        return Err(LinkError::Refused(error));
    }
    let taps = wire::receive_descriptors(&stream, request.interfaces.len())?;
    Ok(Link {
        stream,
        taps,
        warnings: reply.warnings,
    })
}

/// A connection to the holder, which is started when there is none; nothing where one is
/// neither there nor gone.
fn connect(paths: &Paths) -> Result<Option<UnixStream>, LinkError> {
    let socket = paths.holder_socket()?;
    match UnixStream::connect(socket.path()) {
        Ok(stream) => return Ok(Some(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {}
            _ => return Err(error.into()),
        },
    }
    let lock = paths.holder_lock()?;
    if lock.try_lock().is_err() {
        return Ok(None);
    }
    // Between the attempt above and the lock another may have come and gone: what lies there
    // now is nobody's.
    paths.remove_holder_socket();
    let listener = UnixListener::bind(socket.path())?;
    Command::new("/proc/self/exe")
        .arg0("hull-networks")
        .arg(holder::SUBCOMMAND)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::from(lock))
        .stderr(Stdio::from(paths.holder_log()?))
        .spawn()?;
    // It listens already: whoever connects waits until the holder looks.
    Ok(Some(UnixStream::connect(socket.path())?))
}
