//! The name server of the networks: it listens on every bridge, knows the members of the
//! asker's own network, and asks the host's servers (or those of `--dns`) for the rest.

mod packet;
mod upstream;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::names::{Answer, Names};
use super::namespace::Host;
use packet::{Code, Query};
use upstream::Upstream;

const PORT: u16 = 53;

/// Queries that wait for servers at once; more are lost, and asked again by who wants to know.
const MOST: usize = 512;

/// The largest query or answer.
const MESSAGE: usize = 65_535;

/// How long a TCP client may take for a query.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everything that answering takes.
#[derive(Debug)]
struct Server {
    names: Names,
    upstream: Upstream,
    room: std::sync::Arc<Semaphore>,
}

/// Starts serving in this thread's namespace, until the runtime ends.
pub fn start(names: Names, host: Host) -> io::Result<()> {
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT);
    let udp = std::net::UdpSocket::bind(any)?;
    udp.set_nonblocking(true)?;
    let udp = UdpSocket::from_std(udp)?;
    let tcp = std::net::TcpListener::bind(any)?;
    tcp.set_nonblocking(true)?;
    let tcp = TcpListener::from_std(tcp)?;
    let server = Rc::new(Server {
        names,
        upstream: Upstream::new(host),
        room: std::sync::Arc::new(Semaphore::new(MOST)),
    });
    spawn_local(serve_udp(udp, server.clone()));
    spawn_local(serve_tcp(tcp, server));
    Ok(())
}

async fn serve_udp(socket: UdpSocket, server: Rc<Server>) {
    let socket = Rc::new(socket);
    let mut buffer = vec![0; MESSAGE];
    loop {
        // An error tells of an answer that some client did not take.
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let bytes = buffer.get(..len).unwrap_or_default();
        let asker = from.ip().to_canonical();
        match server.answer_at_once(bytes, asker, packet::UDP_LIMIT) {
            Step::Say(answer) => {
                let _ = socket.try_send_to(&answer, from);
            }
            Step::Ask(servers) => {
                let Some(permit) = server.permit() else {
                    continue;
                };
                let (socket, server, bytes) = (socket.clone(), server.clone(), bytes.to_vec());
                spawn_local(async move {
                    let answer = server.ask(&bytes, &servers, false).await;
                    let _ = socket.send_to(&answer, from).await;
                    drop(permit);
                });
            }
            Step::Nothing => {}
        }
    }
}

async fn serve_tcp(listener: TcpListener, server: Rc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let Some(permit) = server.permit() else {
                    continue;
                };
                let server = server.clone();
                spawn_local(async move {
                    // A client that breaks off has no one left to tell.
                    let _ = converse(stream, from.ip().to_canonical(), &server).await;
                    drop(permit);
                });
            }
            // A lack of descriptors: conversations that end make room.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn converse(mut stream: TcpStream, asker: IpAddr, server: &Server) -> io::Result<()> {
    loop {
        let read = async {
            let len = usize::from(stream.read_u16().await?);
            let mut bytes = vec![0; len];
            stream.read_exact(&mut bytes).await?;
            Ok::<_, io::Error>(bytes)
        };
        let bytes = timeout(PATIENCE, read).await??;
        let answer = match server.answer_at_once(&bytes, asker, MESSAGE) {
            Step::Say(answer) => answer,
            Step::Ask(servers) => server.ask(&bytes, &servers, true).await,
            Step::Nothing => return Ok(()),
        };
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let whole = [&len.to_be_bytes(), answer.as_slice()].concat();
        timeout(PATIENCE, stream.write_all(&whole)).await??;
    }
}

/// How a query goes on.
enum Step {
    Say(Vec<u8>),
    Ask(Vec<IpAddr>),
    Nothing,
}

impl Server {
    fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().try_acquire_owned().ok()
    }

    fn answer_at_once(&self, bytes: &[u8], asker: IpAddr, limit: usize) -> Step {
        let Some(query) = Query::read(bytes) else {
            return packet::complaint(bytes).map_or(Step::Nothing, Step::Say);
        };
        let about = if query.is_about_hosts() {
            query.name.as_str()
        } else {
            ""
        };
        match self.names.find(asker, about) {
            None => Step::Nothing,
            Some(Answer::Elsewhere(servers)) => Step::Ask(servers),
            Some(Answer::Addresses(addresses)) => {
                Step::Say(query.addresses(bytes, &addresses, limit))
            }
            Some(Answer::Name(name)) => Step::Say(query.pointer(bytes, &name)),
        }
    }

    async fn ask(&self, bytes: &[u8], servers: &[IpAddr], tcp: bool) -> Vec<u8> {
        match self.upstream.ask(bytes, servers, tcp).await {
            Some(answer) => answer,
            None => Query::read(bytes)
                .map(|query| query.refusal(bytes, Code::Failed))
                .unwrap_or_default(),
        }
    }
}
