//! Published ports: what arrives at a socket of the host goes on to a container.

mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use tokio::task::JoinSet;

use crate::network::ports::Protocol;
use crate::network::wire::Published;

/// Serves one published port until the task is dropped.
pub fn publish(
    tasks: &mut JoinSet<()>,
    port: Published,
    listener: OwnedFd,
    container: IpAddr,
) -> io::Result<()> {
    let target = SocketAddr::new(container, port.port);
    match port.protocol {
        Protocol::Tcp => {
            let listener = std::net::TcpListener::from(listener);
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tasks.spawn_local(tcp::serve(listener, target));
        }
        Protocol::Udp => {
            let socket = std::net::UdpSocket::from(listener);
            socket.set_nonblocking(true)?;
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            tasks.spawn_local(udp::serve(socket, target));
        }
    }
    Ok(())
}
