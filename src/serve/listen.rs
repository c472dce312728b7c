//! Connections: where they come in, how many, and for how long one may say nothing.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::state::{self, Shared, State};
use super::watch::Peer;
use super::{Options, ServeError, activation, bus, default_socket, router};
use crate::container::launch;
use crate::store::Store;

/// Connections at once; the next one waits.
const CONNECTIONS: usize = 2048;
/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);
/// The largest head of a request.
const MAX_HEAD: usize = 64 << 10;
/// Threads that carry bytes.
const WORKERS: usize = 4;
/// Between two attempts to take a connection where descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until a signal.
pub fn run(options: Options, ready: impl FnOnce(&str)) -> Result<(), ServeError> {
    let store = Store::open(&options.paths)?;
    for repair in store.repairs() {
        eprintln!("hull: {repair}");
    }
    let place = Place::take(&options)?;
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(state::THREADS)
        .enable_all()
        .build()?;
    let Place {
        listener,
        socket,
        _lock,
    } = place;
    let served = runtime.block_on(async {
        let state = Arc::new(State::new(options.paths, options.settings)?);
        bus::start(&state, store)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let shown = listener.local_addr()?;
        let shown = shown.as_pathname().map(|path| path.display().to_string());
        ready(&shown.unwrap_or_default());
        serve(listener, state).await
    });
    if let Some(socket) = socket {
        // It may have been removed by hand.
        let _ = fs::remove_file(socket);
    }
    // What is still being done ends by itself or with the process.
    runtime.shutdown_background();
    served
}

/// A listening socket, and the lock that says that somebody listens there.
struct Place {
    listener: StdListener,
    socket: Option<PathBuf>,
    _lock: Option<File>,
}

impl Place {
    fn take(options: &Options) -> Result<Self, ServeError> {
        if let Some(listener) = activation::listener().map_err(ServeError::Activation)? {
            return Ok(Self {
                listener,
                socket: None,
                _lock: None,
            });
        }
        let socket = options.socket.clone();
        let socket = socket.unwrap_or_else(|| default_socket(&options.paths));
        let socket = std::path::absolute(&socket)?;
        let failed = |cause| ServeError::Bind {
            path: socket.clone(),
            cause,
        };
        let lock = lock_beside(&socket).map_err(failed)?;
        if lock.try_lock().is_err() {
            return Err(ServeError::Taken(socket));
        }
        let listener = bind(&socket).map_err(failed)?;
        Ok(Self {
            listener,
            socket: Some(socket),
            _lock: Some(lock),
        })
    }
}

fn lock_beside(socket: &Path) -> io::Result<File> {
    if let Some(directory) = socket.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Binds the socket for its owner alone, in place of one that nobody listens on any more.
fn bind(socket: &Path) -> io::Result<StdListener> {
    match fs::symlink_metadata(socket) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(socket)?,
        Ok(_) => return Err(io::Error::other("something that is no socket is there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // The only thread there is yet.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = StdListener::bind(socket);
    umask(before);
    let listener = bound?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// As many descriptors as the system lets this user have.
fn raise_descriptors() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Fewer clients at once, then.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

async fn serve(listener: UnixListener, state: Shared) -> Result<(), ServeError> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut child_ended = signal(SignalKind::child())?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accept = async {
            let place = places
                .clone()
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            io::Result::Ok((stream, place))
        };
        tokio::select! {
            accepted = accept => match accepted {
                Ok((stream, place)) => {
                    if let Ok(peer) = Peer::new(&stream, place) {
                        tokio::spawn(converse(stream, peer, state.clone()));
                    }
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            _ = child_ended.recv() => launch::reap(),
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
        }
    }
}

async fn converse(stream: UnixStream, peer: Peer, state: Shared) {
    let service = service_fn(|request| router::answer(state.clone(), request, peer.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // What is wrong with a connection concerns whoever is at its other end.
    let _ = connection.await;
}
