//! Interfaces of the holder's namespace: bridges, their ports and their addresses.

use std::io;
use std::net::IpAddr;

use nix::libc;
use nix::net::if_::if_nametoindex;

use super::netlink::{Message, Socket};

const NEW_LINK: u16 = libc::RTM_NEWLINK;
const DELETE_LINK: u16 = libc::RTM_DELLINK;
const SET_LINK: u16 = libc::RTM_SETLINK;
const NEW_ADDRESS: u16 = libc::RTM_NEWADDR;

const UP: u32 = libc::IFF_UP as u32;

/// The largest packet on a network, docker's.
const MTU: u32 = 1500;

/// `IFLA_INFO_DATA` of a bridge.
const BRIDGE_MULTICAST_SNOOPING: u16 = 23;

/// `struct ifinfomsg`.
fn link_body(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&change.to_ne_bytes());
    body
}

/// The number of an interface.
pub fn index(name: &str) -> io::Result<u32> {
    Ok(if_nametoindex(name)?)
}

/// Makes a bridge, which is up at once, and returns its number. A bridge without an address of
/// its own takes one port's, which changes as ports come and go: its members would look for their
/// gateway at the old one for seconds.
pub fn add_bridge(socket: &mut Socket, name: &str, mac: [u8; 6]) -> io::Result<u32> {
    let message = Message::new(NEW_LINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .body(&link_body(0, UP, UP))
        .text(libc::IFLA_IFNAME, name)
        .attribute(libc::IFLA_MTU, &MTU.to_ne_bytes())
        .attribute(libc::IFLA_ADDRESS, &mac)
        .nested(libc::IFLA_LINKINFO, |m| {
            m.text(libc::IFLA_INFO_KIND, "bridge")
                .nested(libc::IFLA_INFO_DATA, |m| {
                    m.attribute(BRIDGE_MULTICAST_SNOOPING, &[0])
                })
        });
    socket.request(message)?;
    index(name)
}

/// Removes an interface.
pub fn delete(socket: &mut Socket, index: u32) -> io::Result<()> {
    socket.request(Message::new(DELETE_LINK, 0).body(&link_body(index, 0, 0)))
}

/// Makes an interface a port of a bridge and takes it up.
pub fn add_port(socket: &mut Socket, index: u32, bridge: u32) -> io::Result<()> {
    let message = Message::new(SET_LINK, 0)
        .body(&link_body(index, UP, UP))
        .attribute(libc::IFLA_MTU, &MTU.to_ne_bytes())
        .attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes());
    socket.request(message)
}

/// Takes an interface up.
pub fn set_up(socket: &mut Socket, index: u32) -> io::Result<()> {
    socket.request(Message::new(SET_LINK, 0).body(&link_body(index, UP, UP)))
}

/// Gives an interface an address of a network with so many bits.
pub fn add_address(socket: &mut Socket, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    let (family, bytes) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    // `struct ifaddrmsg`; nobody else has the address, so nobody is asked.
    let mut body = [0; 8];
    body[0] = family as u8;
    body[1] = prefix;
    body[2] = libc::IFA_F_NODAD as u8;
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    let message = Message::new(NEW_ADDRESS, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .body(&body)
        .attribute(libc::IFA_ADDRESS, &bytes)
        .attribute(libc::IFA_LOCAL, &bytes);
    socket.request(message)
}
