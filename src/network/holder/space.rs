//! What is in the holder's network namespace: bridges, the guests' interfaces on them, the
//! walls between, and the names.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use super::links;
use super::names::{Member, Names};
use super::netlink::Socket;
use super::tap;
use super::walls::{Walls, link_local};
use crate::network::address::hardware;
use crate::network::wire::{Interface, LinkRequest, Segment};

/// The namespace's contents.
#[derive(Debug)]
pub struct Space {
    socket: Socket,
    walls: Walls,
    bridges: HashMap<String, Bridge>,
    host_addresses: HashSet<IpAddr>,
    names: Names,
    ports: u64,
}

#[derive(Debug)]
struct Bridge {
    index: u32,
    internal: bool,
    members: usize,
}

/// What to do about a TAP device that cannot be made.
fn explain_tap(error: io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ", let this user open it (chmod 0666, as most systems do)"
        }
        io::ErrorKind::NotFound => ", load the kernel module tun",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{}: {error}{advice}", tap::DEVICE))
}

/// What [`Space::join`] made for one interface, to be given back to [`Space::leave`].
#[derive(Debug)]
pub struct Port {
    network: String,
    index: u32,
    mac: [u8; 6],
    addresses: Vec<IpAddr>,
    allowed: Option<(Ipv4Addr, Ipv4Addr)>,
    name: u64,
}

fn lower_case(names: &[String]) -> Vec<String> {
    names.iter().map(|name| name.to_ascii_lowercase()).collect()
}

impl Space {
    /// A namespace without networks.
    pub fn new(names: Names) -> io::Result<Self> {
        let mut socket = Socket::route()?;
        let loopback = links::index("lo")?;
        links::set_up(&mut socket, loopback)?;
        Ok(Self {
            socket,
            walls: Walls::build()?,
            bridges: HashMap::new(),
            host_addresses: HashSet::new(),
            names,
            ports: 0,
        })
    }

    /// Connects a container; the descriptors are its ends of the interfaces.
    pub fn join(&mut self, request: &LinkRequest) -> io::Result<(Vec<Port>, Vec<OwnedFd>)> {
        self.close_host_addresses(&request.host_addresses)?;
        let (mut ports, mut taps) = (Vec::new(), Vec::new());
        for interface in &request.interfaces {
            match self.add_port(interface, request) {
                Ok((port, tap)) => {
                    ports.push(port);
                    taps.push(tap);
                }
                Err(error) => {
                    self.leave(ports);
                    return Err(error);
                }
            }
        }
        Ok((ports, taps))
    }

    fn add_port(
        &mut self,
        interface: &Interface,
        request: &LinkRequest,
    ) -> io::Result<(Port, OwnedFd)> {
        let bridge = self.bridge(&interface.network)?;
        let name = format!("tap{}", self.ports);
        self.ports += 1;
        let tap = tap::create(&name).map_err(explain_tap)?;
        let index = links::index(&name)?;
        let mut addresses: Vec<IpAddr> = interface.addresses().collect();
        if interface.ipv6.is_some() {
            addresses.push(link_local(interface.mac).into());
        }
        self.walls
            .set_port(index, interface.mac, &addresses, true)?;
        links::add_port(&mut self.socket, index, bridge)?;
        let allowed = request
            .host_gateway
            .map(|gateway| (interface.ipv4, gateway));
        if let Some((from, to)) = allowed {
            self.walls.set_allowed(from, to, true)?;
        }
        if let Some(bridge) = self.bridges.get_mut(&interface.network.id) {
            bridge.members += 1;
        }
        let name = self.names.add(Member {
            container: request.container.clone(),
            network: interface.network.id.clone(),
            names_served: interface.network.names,
            addresses: interface.addresses().collect(),
            names: lower_case(&interface.names),
            dns: request.dns.clone(),
        });
        let port = Port {
            network: interface.network.id.clone(),
            index,
            mac: interface.mac,
            addresses,
            allowed,
            name,
        };
        Ok((port, tap))
    }

    /// The bridge of a network, made when it is not there.
    fn bridge(&mut self, segment: &Segment) -> io::Result<u32> {
        if let Some(bridge) = self.bridges.get(&segment.id) {
            return Ok(bridge.index);
        }
        // An empty bridge is kept for the next member, but a network that was removed may have
        // had this one's addresses.
        let empty: Vec<String> = self
            .bridges
            .iter()
            .filter(|(_, bridge)| bridge.members == 0)
            .map(|(id, _)| id.clone())
            .collect();
        for id in empty {
            self.remove_bridge(&id)?;
        }
        let (gateway, _) = segment.ipv4;
        let mac = hardware(gateway);
        let index = links::add_bridge(&mut self.socket, &segment.bridge, mac)?;
        let bridge = Bridge {
            index,
            internal: segment.internal,
            members: 0,
        };
        self.bridges.insert(segment.id.clone(), bridge);
        let (address, prefix) = segment.ipv4;
        links::add_address(&mut self.socket, index, address.into(), prefix)?;
        if let Some((address, prefix)) = segment.ipv6 {
            links::add_address(&mut self.socket, index, address.into(), prefix)?;
        }
        self.walls.add_network(index, segment.internal)?;
        Ok(index)
    }

    fn remove_bridge(&mut self, id: &str) -> io::Result<()> {
        if let Some(bridge) = self.bridges.remove(id) {
            self.walls.remove_network(bridge.index, bridge.internal)?;
            links::delete(&mut self.socket, bridge.index)?;
        }
        Ok(())
    }

    /// Members that are found at these ports are called otherwise now.
    pub fn rename(&mut self, ports: &[Port], names: &[String]) {
        for port in ports {
            self.names.rename(port.name, lower_case(names));
        }
    }

    /// Takes back what [`Space::join`] did; the interfaces vanish with their guests' ends.
    pub fn leave(&mut self, ports: Vec<Port>) {
        for port in ports {
            self.names.remove(port.name);
            // What cannot be taken back concerns a port that nobody has any more.
            let _ = self
                .walls
                .set_port(port.index, port.mac, &port.addresses, false);
            if let Some((from, to)) = port.allowed {
                let _ = self.walls.set_allowed(from, to, false);
            }
            if let Some(bridge) = self.bridges.get_mut(&port.network) {
                bridge.members = bridge.members.saturating_sub(1);
            }
        }
    }

    /// The host's addresses are these now.
    fn close_host_addresses(&mut self, now: &[IpAddr]) -> io::Result<()> {
        let now: HashSet<IpAddr> = now.iter().copied().collect();
        for &address in now.difference(&self.host_addresses) {
            self.walls.set_host_address(address, true)?;
        }
        for &address in self.host_addresses.difference(&now) {
            self.walls.set_host_address(address, false)?;
        }
        self.host_addresses = now;
        Ok(())
    }
}
