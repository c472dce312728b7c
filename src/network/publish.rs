//! Ports of the host: sockets that listen there from before a container starts until it ends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};

use super::ports::{Bound, Protocol, Publish};
use super::wire::Published;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// How often a free port is looked for that is free for IPv6 too.
const ATTEMPTS: usize = 32;

/// Why a port cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Somebody listens there.
    #[error("Bind for {0} failed: port is already allocated")]
    Taken(String),
    /// Not allowed.
    #[error(
        "Bind for {0} failed: ports below {1} are root's here; use a higher one, or lower sysctl net.ipv4.ip_unprivileged_port_start"
    )]
    NotAllowed(String, u16),
    /// No address of this host, or anything else.
    #[error("Bind for {address} failed: {source}")]
    Other {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Bound ports: where each is, where it leads, and its socket.
#[derive(Debug, Default)]
pub struct Ports {
    /// For people.
    pub bound: Vec<Bound>,
    /// For the holder, in the order of the sockets.
    pub published: Vec<Published>,
    /// The sockets.
    pub sockets: Vec<OwnedFd>,
}

/// Binds everything that is to be published, or nothing.
pub fn bind(publish: &[Publish]) -> Result<Ports, PublishError> {
    let mut ports = Ports::default();
    for one in publish {
        let found = find(one)?;
        for (address, socket) in found {
            ports.bound.push(Bound {
                host_ip: address.ip(),
                host_port: address.port(),
                port: one.port,
                protocol: one.protocol,
            });
            ports.published.push(Published {
                protocol: one.protocol,
                port: one.port,
            });
            ports.sockets.push(socket.into());
        }
    }
    Ok(ports)
}

type Opened = Vec<(SocketAddr, Socket)>;

/// The sockets of one published port: one per address.
fn find(publish: &Publish) -> Result<Opened, PublishError> {
    let addresses = match publish.host_ip {
        Some(address) => vec![address],
        None => vec![
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ],
    };
    let explain = |port: u16, error: io::Error| {
        let host = addresses.first().copied();
        let host = host.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let address = SocketAddr::new(host, port).to_string();
        match error.kind() {
            io::ErrorKind::AddrInUse => PublishError::Taken(address),
            io::ErrorKind::PermissionDenied => PublishError::NotAllowed(address, first_free()),
            _ => PublishError::Other {
                address,
                source: error,
            },
        }
    };
    match publish.host_ports {
        None => {
            let mut last = io::Error::from(io::ErrorKind::AddrInUse);
            for _ in 0..ATTEMPTS {
                match open_all(&addresses, 0, publish.protocol) {
                    Ok(opened) => return Ok(opened),
                    // The port that the first address got is taken on the other.
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                    Err(error) => return Err(explain(0, error)),
                }
            }
            Err(explain(0, last))
        }
        Some((low, high)) => {
            let mut last = None;
            for port in low..=high {
                match open_all(&addresses, port, publish.protocol) {
                    Ok(opened) => return Ok(opened),
                    Err(error) => last = Some(explain(port, error)),
                }
            }
            Err(last.unwrap_or_else(|| explain(low, io::ErrorKind::InvalidInput.into())))
        }
    }
}

/// Opens the same port on every address; without IPv6 on the host, on the others.
fn open_all(addresses: &[IpAddr], port: u16, protocol: Protocol) -> io::Result<Opened> {
    let mut opened: Opened = Vec::new();
    for &address in addresses {
        let port = opened.first().map_or(port, |(first, _)| first.port());
        match open(SocketAddr::new(address, port), protocol) {
            Ok(socket) => {
                let bound = socket.local_addr()?.as_socket();
                let bound = bound.ok_or(io::ErrorKind::AddrNotAvailable)?;
                opened.push((bound, socket));
            }
            Err(error) if !opened.is_empty() && is_without_ipv6(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(opened)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT};
    matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL))
}

fn open(address: SocketAddr, protocol: Protocol) -> io::Result<Socket> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if protocol == Protocol::Tcp {
        // So that a port can be used again right after its container has ended.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if protocol == Protocol::Tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

/// The first port that everybody may use.
fn first_free() -> u16 {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    setting
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::ports::parse;

    #[test]
    fn ports_are_bound_once() {
        let any = bind(&parse("127.0.0.1::80").unwrap()).unwrap();
        let port = any.bound[0].host_port;
        assert!(port > 0);
        let again = parse(&format!("127.0.0.1:{port}:80")).unwrap();
        let error = bind(&again).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("Bind for 127.0.0.1:{port} failed: port is already allocated")
        );
        let next = port.saturating_add(20);
        let range = parse(&format!("127.0.0.1:{port}-{next}:80")).unwrap();
        let moved = bind(&range).unwrap();
        assert_ne!(moved.bound[0].host_port, port);
        let udp = bind(&parse("127.0.0.1::53/udp").unwrap()).unwrap();
        assert_eq!(udp.published[0].protocol, Protocol::Udp);
        assert!(bind(&parse("203.0.113.77:1234:80").unwrap()).is_err());
    }
}
