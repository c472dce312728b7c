//! The container's networks, as long as it runs: ports of the host, the link to the holder,
//! and a new link when the holder is lost.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking, spawn_local};
use tokio::time::{sleep, timeout};

use super::hub::Hub;
use crate::container::network::NetworkPlan;
use crate::network::host;
use crate::network::link::{self, Link, LinkError};
use crate::network::ports::Bound;
use crate::network::publish::{self, PublishError};
use crate::network::wire::LinkRequest;
use crate::store::Paths;

/// How long to wait before the holder is looked for again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long the holder may take to let go of a container's ports.
const LEAVE: Duration = Duration::from_secs(5);

/// What a running container has of networks.
pub struct Networking {
    terms: Arc<Terms>,
    optional: bool,
    bound: Vec<Bound>,
    first: Option<JoinHandle<Result<Link, LinkError>>>,
    keeper: Option<Keeper>,
}

/// The task that keeps the link.
struct Keeper {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

/// What every link of this container is made of.
struct Terms {
    paths: Paths,
    request: LinkRequest,
    sockets: Vec<OwnedFd>,
}

impl Terms {
    fn establish(&self) -> Result<Link, LinkError> {
        let mut request = self.request.clone();
        request.host_addresses = host::addresses()?;
        link::establish(&self.paths, &request, &self.sockets)
    }
}

impl Networking {
    /// Binds the ports.
    pub fn prepare(plan: NetworkPlan, paths: &Paths) -> Result<Self, PublishError> {
        let ports = publish::bind(&plan.publish)?;
        let mut request = plan.request;
        request.ports = ports.published;
        Ok(Self {
            terms: Arc::new(Terms {
                paths: paths.clone(),
                request,
                sockets: ports.sockets,
            }),
            optional: plan.optional,
            bound: ports.bound,
            first: None,
            keeper: None,
        })
    }

    /// The bound ports.
    pub fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// Begins to connect, while the guest boots.
    pub fn begin(&mut self) {
        let terms = self.terms.clone();
        self.first = Some(spawn_blocking(move || terms.establish()));
    }

    /// Finishes connecting; the sentences are for the user.
    pub async fn connect(&mut self, hub: &Rc<Hub>) -> Result<Vec<String>, String> {
        let Some(first) = self.first.take() else {
            return Ok(Vec::new());
        };
        let linked = match first.await {
            Ok(linked) => linked,
            Err(error) => return Err(format!("connecting the container: {error}")),
        };
        match linked {
            Ok(link) => {
                let warnings = link.warnings.clone();
                let stream =
                    plug_in(hub, link).map_err(|e| format!("connecting the guest: {e}"))?;
                let (end, ended) = oneshot::channel();
                let task = spawn_local(keep(self.terms.clone(), hub.clone(), stream, ended));
                self.keeper = Some(Keeper { task, end });
                Ok(warnings)
            }
            Err(error) if self.optional => {
                Ok(vec![format!("the container has no network: {error}")])
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Networking {
    /// Gives everything back. Published ports are free when this returns, so that the next
    /// start can have them.
    pub async fn leave(mut self) {
        let Some(Keeper { task, end }) = self.keeper.take() else {
            return;
        };
        // Fails only when the task has ended already, which is what is wanted.
        let _ = end.send(());
        if !self.terms.sockets.is_empty() {
            let _ = timeout(LEAVE, task).await;
        }
    }
}

/// Gives the machine its ends of the interfaces.
fn plug_in(hub: &Hub, link: Link) -> std::io::Result<UnixStream> {
    if let Some(machine) = &*hub.machine.borrow() {
        for (number, tap) in link.taps.iter().enumerate() {
            machine.connect_interface(number, tap.as_fd())?;
        }
    }
    link.stream.set_read_timeout(None)?;
    link.stream.set_nonblocking(true)?;
    UnixStream::from_std(link.stream)
}

/// Connects again whenever the holder is lost; the guest keeps its addresses. Ends in order
/// when it is told to.
async fn keep(
    terms: Arc<Terms>,
    hub: Rc<Hub>,
    mut stream: UnixStream,
    mut ended: oneshot::Receiver<()>,
) {
    loop {
        let mut byte = [0];
        tokio::select! {
            // Nothing is ever sent here: whatever comes is the end.
            _ = stream.read(&mut byte) => {}
            _ = &mut ended => {
                let _ = stream.shutdown().await;
                let _ = timeout(LEAVE, stream.read(&mut byte)).await;
                return;
            }
        }
        eprintln!("hull supervisor: the networks are lost, connecting again");
        stream = loop {
            let again = terms.clone();
            let problem = match spawn_blocking(move || again.establish()).await {
                Ok(Ok(link)) => match plug_in(&hub, link) {
                    Ok(stream) => break stream,
                    Err(error) => error.to_string(),
                },
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            eprintln!("hull supervisor: connecting to the networks: {problem}");
            tokio::select! {
                () = sleep(AGAIN) => {}
                _ = &mut ended => return,
            }
        };
    }
}
