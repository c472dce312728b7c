//! What of the host's own network matters to containers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use ipnet::Ipv4Net;
use nix::ifaddrs::getifaddrs;

/// An address that no packet is ever sent to: it stands for "far away".
const FAR_AWAY: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 1), 9);

/// All addresses that this host has, apart from those of its loopback.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for interface in getifaddrs()? {
        let Some(address) = interface.address else {
            continue;
        };
        let address = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            _ => continue,
        };
        if !address.is_loopback() && !found.contains(&address) {
            found.push(address);
        }
    }
    Ok(found)
}

/// The networks that this host is in, so that new ones do not hide them.
pub fn subnets() -> io::Result<Vec<Ipv4Net>> {
    let subnet = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?.as_sockaddr_in()?.ip();
        let mask = interface.netmask?.as_sockaddr_in()?.ip();
        Ipv4Net::with_netmask(address, mask).ok()
    };
    Ok(getifaddrs()?.filter_map(subnet).collect())
}

/// The address of this host that `host-gateway` stands for: the one it speaks with far away.
pub fn gateway() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Connecting a datagram socket sends nothing.
    socket.connect(FAR_AWAY).ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) if !address.ip().is_loopback() => Some(*address.ip()),
        _ => None,
    }
}
