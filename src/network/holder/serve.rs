//! Serving supervisors: each connection is a link of one container.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::rc::Rc;
use std::time::Duration;

use guest_agent::protocol::FrameKind;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet, spawn_blocking, spawn_local};

use super::space::{Port, Space};
use super::{Opened, dns, outside, proxy};
use crate::frames;
use crate::network::wire::{self, LinkReply, LinkRequest, Renaming};
use crate::store::Paths;

/// How long a holder without links stays, for the next container to find it.
const LINGER: Duration = Duration::from_secs(5);

/// How long a supervisor may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all links share.
struct Shared {
    /// Why there are no networks here, in place of them.
    space: Result<RefCell<Space>, String>,
    outside: watch::Receiver<outside::State>,
    links: Cell<usize>,
    changed: watch::Sender<()>,
}

/// Serves until nobody has needed networks for a while.
pub fn run(
    listener: StdListener,
    paths: &Paths,
    opened: Result<Opened, String>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (way, outside) = watch::channel(None);
        let space = match opened {
            Ok(opened) => {
                dns::start(opened.names, opened.host)?;
                opened.outside.keep(way)?;
                Ok(RefCell::new(opened.space))
            }
            Err(error) => Err(error),
        };
        let shared = Rc::new(Shared {
            space,
            outside,
            links: Cell::new(0),
            changed: watch::Sender::new(()),
        });
        accept(&listener, &shared).await;
        // From here on nobody finds this holder; who has connected already is told to try
        // again by the end of the connection.
        paths.remove_holder_socket();
        drop(listener);
        Ok(())
    }))
}

/// Takes connections in until there has been no link for a while.
async fn accept(listener: &UnixListener, shared: &Rc<Shared>) {
    let mut changed = shared.changed.subscribe();
    loop {
        let idle = async {
            match shared.links.get() {
                0 => tokio::time::sleep(LINGER).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    shared.count(1);
                    let shared = shared.clone();
                    spawn_local(async move {
                        if let Err(error) = link(stream, &shared).await {
                            eprintln!("hull networks: a link ended: {error}");
                        }
                        shared.count(-1);
                    });
                }
                // A lack of descriptors: links that end make room.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            _ = changed.changed() => {}
            () = idle => return,
        }
    }
}

impl Shared {
    fn count(&self, change: isize) {
        self.links
            .set(self.links.get().saturating_add_signed(change));
        self.changed.send_replace(());
    }
}

/// A container's link, from its request to its end.
async fn link(stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let stream = stream.into_std()?;
    let (mut stream, request) = spawn_blocking(move || read_request(stream)).await??;
    let (request, listeners) = request;
    let made = match &shared.space {
        Err(error) => Err(error.clone()),
        Ok(space) => {
            let joined = space.borrow_mut().join(&request);
            joined
                .map(|(ports, taps)| (Membership { space, ports }, taps))
                .map_err(|error| format!("connecting the container: {error}"))
        }
    };
    let (membership, taps) = match made {
        Ok(made) => made,
        Err(error) => {
            let reply = LinkReply {
                error: Some(error),
                warnings: Vec::new(),
            };
            return wire::send(&mut stream, &reply);
        }
    };
    let mut tasks = JoinSet::new();
    if let Some(target) = request.target.map(IpAddr::V4) {
        for (port, listener) in request.ports.iter().zip(listeners) {
            proxy::publish(&mut tasks, *port, listener, target)?;
        }
    }
    let mut warnings = Vec::new();
    if request.interfaces.iter().any(|i| !i.network.internal) {
        // The container's first packet is to find its way.
        let mut outside = shared.outside.clone();
        if let Ok(state) = outside.wait_for(Option::is_some).await {
            warnings.extend(state.iter().flatten().cloned());
        }
    }
    wire::send(
        &mut stream,
        &LinkReply {
            error: None,
            warnings,
        },
    )?;
    let ends: Vec<_> = taps.iter().map(AsFd::as_fd).collect();
    wire::send_descriptors(&stream, &ends)?;
    drop(taps);
    // The link lasts until the supervisor, or its machine's end, closes the connection.
    stream.set_nonblocking(true)?;
    let ended = rename(UnixStream::from_std(stream)?, &membership).await;
    tasks.shutdown().await;
    drop(membership);
    ended
}

/// Lets the supervisor change its container's names until it closes the connection.
async fn rename(mut stream: UnixStream, membership: &Membership<'_>) -> io::Result<()> {
    while let Some(frame) = frames::read(&mut stream).await.map_err(io::Error::other)? {
        let Renaming { names } = serde_json::from_slice(&frame.payload)?;
        let Membership { space, ports } = membership;
        space.borrow_mut().rename(ports, &names);
        let done = LinkReply {
            error: None,
            warnings: Vec::new(),
        };
        frames::send(&mut stream, FrameKind::Response, &done).await?;
    }
    Ok(())
}

type Asked = (LinkRequest, Vec<OwnedFd>);

fn read_request(mut stream: StdStream) -> io::Result<(StdStream, Asked)> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request: LinkRequest = wire::receive(&mut stream)?;
    if request.version != wire::VERSION {
        let error = "the networks are held by another version of hull, stop its containers first";
        let reply = LinkReply {
            error: Some(error.to_owned()),
            warnings: Vec::new(),
        };
        wire::send(&mut stream, &reply)?;
        return Err(io::Error::other("a supervisor of another version"));
    }
    let listeners = wire::receive_descriptors(&stream, request.ports.len())?;
    Ok((stream, (request, listeners)))
}

/// A container in the namespace; dropping it takes the container out.
struct Membership<'a> {
    space: &'a RefCell<Space>,
    ports: Vec<Port>,
}

impl Drop for Membership<'_> {
    fn drop(&mut self) {
        self.space
            .borrow_mut()
            .leave(std::mem::take(&mut self.ports));
    }
}
