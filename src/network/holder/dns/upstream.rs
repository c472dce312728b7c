//! Asking name servers elsewhere: the host's own from the host's network, where they may be on
//! its loopback, and those of `--dns` from the guests' network, as the container would.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::packet;
use crate::id;
use crate::network::holder::namespace::Host;

const PORT: u16 = 53;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// The most servers that are asked for one answer.
const SERVERS: usize = 3;

/// The most bytes of the host's list that are read.
const LIST: usize = 64 << 10;

/// The servers elsewhere.
#[derive(Debug)]
pub struct Upstream {
    host: Host,
}

impl Upstream {
    /// The host's servers are asked from where `host` is.
    pub fn new(host: Host) -> Self {
        Self { host }
    }

    /// The first answer that comes from `servers`, or from the host's where there are none.
    pub async fn ask(&self, query: &[u8], servers: &[IpAddr], tcp: bool) -> Option<Vec<u8>> {
        let own = servers.is_empty();
        let servers = if own {
            hosts_servers()
        } else {
            servers.to_vec()
        };
        for server in servers.into_iter().take(SERVERS) {
            let server = SocketAddr::new(server, PORT);
            let asked = timeout(PATIENCE, self.ask_one(query, server, own, tcp));
            if let Ok(Ok(answer)) = asked.await {
                return Some(answer);
            }
        }
        None
    }

    async fn ask_one(
        &self,
        query: &[u8],
        server: SocketAddr,
        own: bool,
        tcp: bool,
    ) -> io::Result<Vec<u8>> {
        // A number of our own, which nobody on the way can guess.
        let number = u16::from_be_bytes(id::random_bytes::<2>()?);
        let original = query
            .get(..2)
            .map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
        let mut sent = query.to_vec();
        packet::renumber(&mut sent, number);
        let mut answer = if tcp {
            self.by_tcp(&sent, server, own).await?
        } else {
            self.by_udp(&sent, server, own, number).await?
        };
        if !packet::is_answer(&answer, number, &sent) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        packet::renumber(&mut answer, original);
        Ok(answer)
    }

    async fn by_udp(
        &self,
        query: &[u8],
        server: SocketAddr,
        own: bool,
        number: u16,
    ) -> io::Result<Vec<u8>> {
        let open = move || {
            let any = match server {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let socket = std::net::UdpSocket::bind((any, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = if own { self.host.run(open)? } else { open()? };
        let socket = UdpSocket::from_std(socket)?;
        socket.connect(server).await?;
        socket.send(query).await?;
        let mut buffer = vec![0; 65_535];
        loop {
            let len = socket.recv(&mut buffer).await?;
            let bytes = buffer.get(..len).unwrap_or_default();
            // Anything else is somebody's guess.
            if packet::is_answer(bytes, number, query) {
                return Ok(bytes.to_vec());
            }
        }
    }

    async fn by_tcp(&self, query: &[u8], server: SocketAddr, own: bool) -> io::Result<Vec<u8>> {
        let open = move || match server {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = if own { self.host.run(open)? } else { open()? };
        let mut stream = socket.connect(server).await?;
        let len = u16::try_from(query.len()).map_err(io::Error::other)?;
        stream
            .write_all(&[&len.to_be_bytes(), query].concat())
            .await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

/// The host's name servers, as they are now.
fn hosts_servers() -> Vec<IpAddr> {
    let mut list = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    list.truncate(list.floor_char_boundary(LIST));
    servers_of(&list)
}

/// The servers in a `resolv.conf`.
fn servers_of(list: &str) -> Vec<IpAddr> {
    let words = list.lines().map(|line| {
        let mut words = line.split_whitespace();
        (words.next(), words.next())
    });
    let named = words.filter_map(|(key, value)| value.filter(|_| key == Some("nameserver")));
    named.filter_map(|address| address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_list_is_read() {
        let list = "# x\nsearch a b\nnameserver 127.0.0.53\n nameserver ::1 \nnameserver nobody\n";
        let wanted: Vec<IpAddr> = vec!["127.0.0.53".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(servers_of(list), wanted);
    }
}
