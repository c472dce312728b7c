//! UDP: every client of a published port gets a socket of its own towards the container, so
//! that answers find their way back, until neither side has spoken for a while.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// How long both sides may be silent, docker's.
const IDLE: Duration = Duration::from_secs(90);

/// Clients of one port at once; more are not served until others have gone silent.
const MOST: usize = 1024;

/// The largest datagram.
const DATAGRAM: usize = 65_535;

thread_local! {
    static ANSWER: RefCell<Vec<u8>> = RefCell::new(vec![0; DATAGRAM]);
}

/// What one client has.
#[derive(Debug)]
struct Flow {
    inside: UdpSocket,
    until: Cell<Instant>,
}

type Flows = Rc<RefCell<HashMap<SocketAddr, Rc<Flow>>>>;

/// Serves until the task is dropped.
pub async fn serve(socket: UdpSocket, target: SocketAddr) {
    let socket = Rc::new(socket);
    let flows = Flows::default();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                // An error tells of an answer that some client did not take.
                let Ok((len, client)) = received else { continue };
                let known = flows.borrow().get(&client).cloned();
                let flow = match known {
                    Some(flow) => flow,
                    None => {
                        let Ok(flow) = open(&flows, client, target).await else { continue };
                        answers.spawn_local(answer(socket.clone(), flow.clone(), flows.clone(), client));
                        flow
                    }
                };
                flow.until.set(Instant::now() + IDLE);
                // A datagram that cannot be sent is lost, as on any network.
                let _ = flow.inside.send(buffer.get(..len).unwrap_or_default()).await;
            }
            Some(_) = answers.join_next() => {}
        }
    }
}

async fn open(flows: &Flows, client: SocketAddr, target: SocketAddr) -> io::Result<Rc<Flow>> {
    if flows.borrow().len() >= MOST {
        return Err(io::ErrorKind::QuotaExceeded.into());
    }
    let any = match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let inside = UdpSocket::bind((any, 0)).await?;
    inside.connect(target).await?;
    let flow = Rc::new(Flow {
        inside,
        until: Cell::new(Instant::now() + IDLE),
    });
    flows.borrow_mut().insert(client, flow.clone());
    Ok(flow)
}

/// Carries answers back until both sides are silent.
async fn answer(socket: Rc<UdpSocket>, flow: Rc<Flow>, flows: Flows, client: SocketAddr) {
    loop {
        match timeout_at(flow.until.get(), flow.inside.readable()).await {
            Ok(_) => ANSWER.with_borrow_mut(|buffer| {
                // An error: the container has nobody at that port at the moment.
                if let Ok(len) = flow.inside.try_recv(buffer) {
                    flow.until.set(Instant::now() + IDLE);
                    let bytes = buffer.get(..len).unwrap_or_default();
                    let _ = socket.try_send_to(bytes, client);
                }
            }),
            Err(_) if flow.until.get() > Instant::now() => {}
            Err(_) => break,
        }
    }
    flows.borrow_mut().remove(&client);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_their_own_answers() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let work = async {
            let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = outside.local_addr().unwrap();
            let server = tokio::task::spawn_local(serve(outside, inside.local_addr().unwrap()));
            let mut buffer = [0; 64];
            for text in [b"one", b"two"] {
                let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                client.send_to(text, address).await.unwrap();
                let (len, from) = inside.recv_from(&mut buffer).await.unwrap();
                assert_eq!(&buffer[..len], text);
                inside.send_to(&buffer[..len], from).await.unwrap();
                let (len, from) = client.recv_from(&mut buffer).await.unwrap();
                assert_eq!((&buffer[..len], from), (&text[..], address));
            }
            server.abort();
        };
        runtime.block_on(tokio::task::LocalSet::new().run_until(work));
    }
}
