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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::state::{self, Shared, State};
use super::watch::Peer;
use super::{Options, Remote, ServeError, activation, bus, default_socket, router, tls};
use crate::container::launch;
use crate::store::Store;

/// Connections at once; the next one waits.
const CONNECTIONS: usize = 2048;
/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);
/// How long a client on a network may take to show its certificate.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
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
        bound,
        socket,
        _lock,
    } = place;
    let served = runtime.block_on(async {
        let state = Arc::new(State::new(options.paths, options.settings)?);
        bus::start(&state, store)?;
        let listener = Listener::new(bound)?;
        ready(&listener.address()?);
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

/// A socket that listens, and the lock that says that somebody listens there.
struct Place {
    bound: Bound,
    socket: Option<PathBuf>,
    _lock: Option<File>,
}

/// A socket that listens.
enum Bound {
    Local(StdListener),
    Remote(std::net::TcpListener, TlsAcceptor),
}

impl Place {
    fn take(options: &Options) -> Result<Self, ServeError> {
        if let Some(remote) = &options.remote {
            return Self::remote(remote);
        }
        if let Some(listener) = activation::listener().map_err(ServeError::Activation)? {
            return Ok(Self {
                bound: Bound::Local(listener),
                socket: None,
                _lock: None,
            });
        }
        let socket = options.socket.clone();
        let socket = socket.unwrap_or_else(|| default_socket(&options.paths));
        let socket = std::path::absolute(&socket)?;
        let failed = |cause| ServeError::Bind {
            place: socket.display().to_string(),
            cause,
        };
        let lock = lock_beside(&socket).map_err(failed)?;
        if lock.try_lock().is_err() {
            return Err(ServeError::Taken(socket));
        }
        let listener = bind(&socket).map_err(failed)?;
        Ok(Self {
            bound: Bound::Local(listener),
            socket: Some(socket),
            _lock: Some(lock),
        })
    }

    fn remote(remote: &Remote) -> Result<Self, ServeError> {
        let acceptor = tls::acceptor(remote)?;
        let listener = std::net::TcpListener::bind(&remote.address);
        let listener = listener.map_err(|cause| ServeError::Bind {
            place: remote.address.clone(),
            cause,
        })?;
        Ok(Self {
            bound: Bound::Remote(listener, acceptor),
            socket: None,
            _lock: None,
        })
    }
}

/// Where connections come from.
enum Listener {
    Local(UnixListener),
    Remote(TcpListener, TlsAcceptor),
}

/// A connection that was taken and has said nothing yet.
enum Stream {
    Local(UnixStream),
    Remote(TcpStream, TlsAcceptor),
}

impl Listener {
    fn new(bound: Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Local(listener) => {
                listener.set_nonblocking(true)?;
                Self::Local(UnixListener::from_std(listener)?)
            }
            Bound::Remote(listener, acceptor) => {
                listener.set_nonblocking(true)?;
                Self::Remote(TcpListener::from_std(listener)?, acceptor)
            }
        })
    }

    /// As clients write it in `DOCKER_HOST`.
    fn address(&self) -> io::Result<String> {
        Ok(match self {
            Self::Local(listener) => {
                let path = listener.local_addr()?;
                let path = path.as_pathname().map(|path| path.display().to_string());
                format!("unix://{}", path.unwrap_or_default())
            }
            Self::Remote(listener, _) => format!("tcp://{}", listener.local_addr()?),
        })
    }

    async fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Local(listener) => Stream::Local(listener.accept().await?.0),
            Self::Remote(listener, acceptor) => {
                Stream::Remote(listener.accept().await?.0, acceptor.clone())
            }
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

async fn serve(listener: Listener, state: Shared) -> Result<(), ServeError> {
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
            io::Result::Ok((listener.accept().await?, place))
        };
        tokio::select! {
            accepted = accept => match accepted {
                Ok((stream, place)) => {
                    tokio::spawn(welcome(stream, place, state.clone()));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            _ = child_ended.recv() => launch::reap(),
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
        }
    }
}

/// Finds out who is there before anything is listened to.
async fn welcome(stream: Stream, place: OwnedSemaphorePermit, state: Shared) {
    match stream {
        Stream::Local(stream) => {
            if let Ok(peer) = Peer::new(&stream, place) {
                converse(stream, peer, state).await;
            }
        }
        Stream::Remote(stream, acceptor) => {
            if let Ok(peer) = Peer::new(&stream, place)
                && tls::keep_alive(&stream).is_ok()
                && let Ok(Ok(stream)) =
                    tokio::time::timeout(HANDSHAKE_PATIENCE, acceptor.accept(stream)).await
            {
                converse(stream, peer, state).await;
            }
        }
    }
}

async fn converse<S>(stream: S, peer: Peer, state: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
