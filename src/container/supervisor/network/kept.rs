//! A link to the holder that is kept: made again whenever the holder is lost.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use guest_agent::protocol::FrameKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking, spawn_local};
use tokio::time::{sleep, timeout};
use vmm::NetworkPlace;

use super::super::hub::Hub;
use crate::frames;
use crate::network::host;
use crate::network::link::{self, Link, LinkError};
use crate::network::wire::{LinkRequest, Renaming};
use crate::store::Paths;

/// How long to wait before the holder is looked for again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long the holder may take to let go of a container's ports.
const LEAVE: Duration = Duration::from_secs(5);

/// What a link is made of, again and again.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) paths: Paths,
    pub(super) request: LinkRequest,
    pub(super) sockets: Arc<Vec<OwnedFd>>,
}

impl Terms {
    /// Asks the holder for it; blocks.
    pub(super) fn establish(&self) -> Result<Link, LinkError> {
        let mut request = self.request.clone();
        request.host_addresses = host::addresses()?;
        link::establish(&self.paths, &request, &self.sockets)
    }

    /// Asks for it elsewhere.
    pub(super) async fn ask(self: &Arc<Self>) -> Result<Link, String> {
        let terms = self.clone();
        match spawn_blocking(move || terms.establish()).await {
            Ok(linked) => linked.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The task that keeps a link.
#[derive(Debug)]
pub(super) struct Kept {
    task: JoinHandle<()>,
    /// Its end ends the link.
    orders: mpsc::Sender<Rename>,
}

/// The container's names are these now; dropped when that is known where it matters.
#[derive(Debug)]
struct Rename {
    names: Vec<String>,
    _done: oneshot::Sender<()>,
}

impl Kept {
    /// Gives the machine its end of a new link, which comes to `place`, and keeps it.
    pub(super) fn begin(
        terms: Arc<Terms>,
        hub: &Rc<Hub>,
        link: Link,
        place: Option<NetworkPlace>,
    ) -> io::Result<Self> {
        let stream = plug_in(hub, link, place)?;
        let (orders, queue) = mpsc::channel(1);
        let task = spawn_local(keep(terms, hub.clone(), stream, place, queue));
        Ok(Self { task, orders })
    }

    /// Lets the container be found by other names.
    pub(super) async fn rename(&self, names: Vec<String>) {
        let (_done, done) = oneshot::channel();
        if self.orders.send(Rename { names, _done }).await.is_ok() {
            let _ = timeout(LEAVE, done).await;
        }
    }

    /// Lets the link end, without waiting for it.
    pub(super) fn let_go(self) -> JoinHandle<()> {
        self.task
    }

    /// Ends the link; returns when the holder has let go, unless it hangs.
    pub(super) async fn end(self) {
        let _ = timeout(LEAVE, self.let_go()).await;
    }
}

fn plug_in(hub: &Hub, link: Link, place: Option<NetworkPlace>) -> io::Result<UnixStream> {
    if let (Some(machine), Some(place)) = (&*hub.machine.borrow(), place) {
        for tap in &link.taps {
            machine.connect_network(place, Some(tap.as_fd()))?;
        }
    }
    link.stream.set_read_timeout(None)?;
    link.stream.set_nonblocking(true)?;
    UnixStream::from_std(link.stream)
}

/// Connects again whenever the holder is lost; the guest keeps its addresses. Ends in order
/// when there is nobody to give orders any more.
async fn keep(
    mut terms: Arc<Terms>,
    hub: Rc<Hub>,
    mut stream: UnixStream,
    place: Option<NetworkPlace>,
    mut orders: mpsc::Receiver<Rename>,
) {
    loop {
        let mut byte = [0];
        tokio::select! {
            // Nothing is ever sent here unasked: whatever comes is the end.
            _ = stream.read(&mut byte) => {}
            order = orders.recv() => match order {
                Some(order) => {
                    rename(&mut terms, &order.names);
                    if tell(&mut stream, order).await.is_ok() {
                        continue;
                    }
                }
                None => {
                    let _ = stream.shutdown().await;
                    let _ = timeout(LEAVE, stream.read(&mut byte)).await;
                    return;
                }
            }
        }
        eprintln!("hull supervisor: the networks are lost, connecting again");
        stream = loop {
            let problem = match terms.ask().await {
                Ok(link) => match plug_in(&hub, link, place) {
                    Ok(stream) => break stream,
                    Err(error) => error.to_string(),
                },
                Err(error) => error,
            };
            eprintln!("hull supervisor: connecting to the networks: {problem}");
            tokio::select! {
                () = sleep(AGAIN) => {}
                order = orders.recv() => match order {
                    Some(order) => rename(&mut terms, &order.names),
                    None => return,
                }
            }
        };
    }
}

/// The next link is to have these names, too.
fn rename(terms: &mut Arc<Terms>, names: &[String]) {
    for interface in &mut Arc::make_mut(terms).request.interfaces {
        interface.names = names.to_vec();
    }
}

/// Tells the holder.
async fn tell(stream: &mut UnixStream, order: Rename) -> io::Result<()> {
    let renaming = Renaming { names: order.names };
    frames::send(stream, FrameKind::Request, &renaming).await?;
    let answer = timeout(LEAVE, frames::read(stream)).await?;
    match answer.map_err(io::Error::other)? {
        Some(_) => Ok(()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
