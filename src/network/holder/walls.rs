//! The walls between guests: what the namespace's packet filter lets through.
//!
//! Between the ports of a bridge a frame passes only with the hardware and the network address
//! that its sender was given. Between networks nothing passes. From a network to the outside
//! packets pass if the network is not internal, but not to the host's own addresses, unless the
//! container was given `host-gateway`. The namespace itself answers name queries and pings.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::expressions::{
    Family, Header, Hook, Rule, Value, batch, chain, element, meta, set, table,
};
use super::netlink::{Message, Socket};
use super::outside::INTERFACE as OUTSIDE;

const FROM4: (&str, u32) = ("from4", 1);
const FROM6: (&str, u32) = ("from6", 2);
const SAME: (&str, u32) = ("same", 1);
const OPEN: (&str, u32) = ("open", 2);
const HOST4: (&str, u32) = ("host4", 3);
const HOST6: (&str, u32) = ("host6", 4);
const ALLOWED4: (&str, u32) = ("allowed4", 5);

const IPV4: &[u8] = &[0x08, 0x00];
const ARP: &[u8] = &[0x08, 0x06];
const IPV6: &[u8] = &[0x86, 0xdd];

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const DNS: [u8; 2] = 53_u16.to_be_bytes();

/// The loopback interface's number in every namespace.
const LOOPBACK: u32 = 1;

const FROM: (Value, u32) = (Value::Meta(meta::FROM), 4);
const TO: (Value, u32) = (Value::Meta(meta::TO), 4);

const fn header(header: Header, offset: u32, len: u32) -> (Value, u32) {
    (Value::Header(header, offset, len), len)
}

const SOURCE_MAC: (Value, u32) = header(Header::Link, 6, 6);
const SOURCE4: (Value, u32) = header(Header::Network, 12, 4);
const DESTINATION4: (Value, u32) = header(Header::Network, 16, 4);
const SOURCE6: (Value, u32) = header(Header::Network, 8, 16);
const DESTINATION6: (Value, u32) = header(Header::Network, 24, 16);

/// The filter of one namespace.
#[derive(Debug)]
pub struct Walls {
    socket: Socket,
}

impl Walls {
    /// Puts the walls up, with nothing allowed yet.
    pub fn build() -> io::Result<Self> {
        let mut socket = Socket::netfilter().map_err(explain)?;
        let mut messages = bridge_table();
        messages.extend(inet_table());
        socket.batch(batch(messages)).map_err(explain)?;
        Ok(Self { socket })
    }

    /// Lets a network's packets out (or not), and between its own members.
    pub fn add_network(&mut self, bridge: u32, internal: bool) -> io::Result<()> {
        self.network(bridge, internal, true)
    }

    /// Takes back [`Walls::add_network`].
    pub fn remove_network(&mut self, bridge: u32, internal: bool) -> io::Result<()> {
        self.network(bridge, internal, false)
    }

    fn network(&mut self, bridge: u32, internal: bool, present: bool) -> io::Result<()> {
        let number = bridge.to_ne_bytes();
        let mut messages = vec![element(
            Family::Inet,
            SAME.0,
            &[number, number].concat(),
            present,
        )];
        if !internal {
            messages.push(element(Family::Inet, OPEN.0, &number, present));
        }
        self.socket.batch(batch(messages))
    }

    /// Lets frames of a port pass that have one of these addresses, or no longer.
    pub fn set_port(
        &mut self,
        port: u32,
        mac: [u8; 6],
        addresses: &[IpAddr],
        present: bool,
    ) -> io::Result<()> {
        let change = |address: &IpAddr| {
            let mut key = port.to_ne_bytes().to_vec();
            key.extend_from_slice(&mac);
            key.extend_from_slice(&[0, 0]);
            match address {
                IpAddr::V4(address) => {
                    key.extend_from_slice(&address.octets());
                    element(Family::Bridge, FROM4.0, &key, present)
                }
                IpAddr::V6(address) => {
                    key.extend_from_slice(&address.octets());
                    element(Family::Bridge, FROM6.0, &key, present)
                }
            }
        };
        let messages = addresses.iter().map(change).collect();
        self.socket.batch(batch(messages))
    }

    /// Closes the host's own addresses, or opens those that it has no longer.
    pub fn set_host_address(&mut self, address: IpAddr, closed: bool) -> io::Result<()> {
        let message = match address {
            IpAddr::V4(address) => element(Family::Inet, HOST4.0, &address.octets(), closed),
            IpAddr::V6(address) => element(Family::Inet, HOST6.0, &address.octets(), closed),
        };
        self.socket.batch(batch(vec![message]))
    }

    /// Lets one container reach one of the host's own addresses, or no longer.
    pub fn set_allowed(&mut self, from: Ipv4Addr, to: Ipv4Addr, open: bool) -> io::Result<()> {
        let key = [from.octets(), to.octets()].concat();
        let message = element(Family::Inet, ALLOWED4.0, &key, open);
        self.socket.batch(batch(vec![message]))
    }
}

/// What to do about a kernel without packet filter.
fn explain(error: io::Error) -> io::Error {
    use nix::libc::{ENOENT, EOPNOTSUPP, EPROTONOSUPPORT};
    match error.raw_os_error() {
        Some(ENOENT | EOPNOTSUPP | EPROTONOSUPPORT) => io::Error::new(
            error.kind(),
            format!(
                "this kernel lacks parts of its packet filter (nf_tables with nat and masquerade): {error}"
            ),
        ),
        _ => error,
    }
}

/// The address that an interface gives itself, which its neighbours speak to.
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.map(u16::from);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        (a ^ 2) << 8 | b,
        c << 8 | 0xff,
        0xfe00 | d,
        e << 8 | f,
    )
}

fn bridge_table() -> Vec<Message> {
    const CHAIN: &str = "ports";
    let family = Family::Bridge;
    let hook = Hook {
        kind: "filter",
        number: 0,
        priority: -300,
        accept: false,
    };
    let rule = |protocol: &[u8]| Rule::new(family, CHAIN).is(Value::Meta(meta::PROTOCOL), protocol);
    let arp_mac = header(Header::Network, 8, 6);
    let arp_address = header(Header::Network, 14, 4);
    let advertised = header(Header::Transport, 8, 16);
    vec![
        table(family),
        set(family, FROM4.0, FROM4.1, 16),
        set(family, FROM6.0, FROM6.1, 28),
        chain(family, CHAIN, hook),
        rule(IPV4)
            .are_in(&[FROM, SOURCE_MAC, SOURCE4], FROM4.0, FROM4.1, true)
            .accept(),
        rule(ARP)
            .are_in(&[FROM, SOURCE_MAC, arp_address], FROM4.0, FROM4.1, true)
            .are_in(&[FROM, arp_mac, arp_address], FROM4.0, FROM4.1, true)
            .accept(),
        rule(IPV6)
            .is(Value::Meta(meta::TRANSPORT), &[ICMPV6])
            .is(
                header(Header::Transport, 0, 1).0,
                &[NEIGHBOUR_ADVERTISEMENT],
            )
            .are_in(&[FROM, SOURCE_MAC, advertised], FROM6.0, FROM6.1, false)
            .drop(),
        rule(IPV6)
            .are_in(&[FROM, SOURCE_MAC, SOURCE6], FROM6.0, FROM6.1, true)
            .accept(),
    ]
}

fn inet_table() -> Vec<Message> {
    let family = Family::Inet;
    let filter = |number| Hook {
        kind: "filter",
        number,
        priority: 0,
        accept: false,
    };
    let nat = Hook {
        kind: "nat",
        number: 4,
        priority: 100,
        accept: true,
    };
    let mut name = [0; 16];
    name[..OUTSIDE.len()].copy_from_slice(OUTSIDE.as_bytes());
    let to_outside = |rule: Rule| rule.is(Value::Meta(meta::TO_NAME), &name);
    let forward = || Rule::new(family, "forward");
    let forward4 = || forward().is(Value::Meta(meta::FAMILY), &[2]);
    let forward6 = || forward().is(Value::Meta(meta::FAMILY), &[10]);
    let input = || Rule::new(family, "input");
    let transport = |protocol: u8| input().is(Value::Meta(meta::TRANSPORT), &[protocol]);
    let to_port = header(Header::Transport, 2, 2).0;
    vec![
        table(family),
        set(family, SAME.0, SAME.1, 8),
        set(family, OPEN.0, OPEN.1, 4),
        set(family, HOST4.0, HOST4.1, 4),
        set(family, HOST6.0, HOST6.1, 16),
        set(family, ALLOWED4.0, ALLOWED4.1, 8),
        chain(family, "forward", filter(2)),
        forward().of_known_connection().accept(),
        // Frames within one bridge come here too where the host filters bridges.
        forward().are_in(&[FROM, TO], SAME.0, SAME.1, true).accept(),
        forward4()
            .are_in(&[SOURCE4, DESTINATION4], ALLOWED4.0, ALLOWED4.1, true)
            .accept(),
        forward4()
            .are_in(&[DESTINATION4], HOST4.0, HOST4.1, true)
            .drop(),
        forward6()
            .are_in(&[DESTINATION6], HOST6.0, HOST6.1, true)
            .drop(),
        // The unspecified and the loopback address, and IPv4 addresses in the clothes of IPv6.
        forward6().is(header(Header::Network, 24, 1).0, &[0]).drop(),
        to_outside(forward())
            .are_in(&[FROM], OPEN.0, OPEN.1, true)
            .accept(),
        chain(family, "input", filter(1)),
        input()
            .is(Value::Meta(meta::FROM), &LOOPBACK.to_ne_bytes())
            .accept(),
        input().of_known_connection().accept(),
        transport(UDP).is(to_port, &DNS).accept(),
        transport(TCP).is(to_port, &DNS).accept(),
        transport(ICMP).accept(),
        transport(ICMPV6).accept(),
        chain(family, "outgoing", nat),
        to_outside(Rule::new(family, "outgoing")).masquerade(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_give_themselves_the_address_that_is_expected() {
        let address = link_local([0x02, 0x42, 0xac, 0x11, 0x00, 0x02]);
        assert_eq!(address.to_string(), "fe80::42:acff:fe11:2");
    }
}
