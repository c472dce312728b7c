//! A container on its networks: what its machine, its guest and the networks' holder are told.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use guest_agent::protocol::{Interface as GuestInterface, InterfaceAddress, ProvidedFile};
use serde::{Deserialize, Serialize};

use super::record::Container;
use crate::network::host;
use crate::network::ports::Publish;
use crate::network::record::{Endpoint, Network};
use crate::network::wire::{Interface, LinkRequest, Segment, VERSION};
use crate::store::{Found, Store, StoreError};

/// What stands for the host's address in `--add-host`.
pub const HOST_GATEWAY: &str = "host-gateway";

/// The most bytes of the host's `resolv.conf` that are looked at.
const RESOLV_CONF: usize = 64 << 10;

/// Why a container's networks cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The host has no address that could stand for it.
    #[error(
        "--add-host with host-gateway needs an address of this host, and it has none but its loopback's"
    )]
    NoHostGateway,
    /// `--link` to nobody.
    #[error("could not get container for {0}: No such container: {0}")]
    NoLinked(String),
    /// `--link` to somebody elsewhere.
    #[error("Cannot link to {linked}, as it does not belong to a network of {container}")]
    OtherNetwork {
        /// Who is linked.
        linked: String,
        /// Who links.
        container: String,
    },
    /// More networks than a machine has interfaces.
    #[error("a container can be in {0} networks at once")]
    TooMany(usize),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a supervisor does about networks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// What the holder is asked for, without what is [`NetworkPlan::members`]'; the supervisor
    /// adds ports and the host's addresses.
    pub request: LinkRequest,
    /// The networks to be in.
    pub members: Vec<Member>,
    /// The hardware address of the machine's first interface, which carries the networks that
    /// are joined later; none where no network ever is.
    pub carrier: Option<[u8; 6]>,
    /// The ports to publish.
    pub publish: Vec<Publish>,
    /// Whether the container does without when there are no networks.
    pub optional: bool,
}

/// A network that a container is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// For the holder.
    pub interface: Interface,
    /// For the guest.
    pub guest: GuestInterface,
}

impl NetworkPlan {
    /// The hardware addresses of the machine's interfaces.
    pub fn macs(&self) -> Vec<[u8; 6]> {
        self.guest_interfaces().iter().map(|one| one.mac).collect()
    }

    /// The guest's interfaces when it starts.
    pub fn guest_interfaces(&self) -> Vec<GuestInterface> {
        let members = self.members.iter().map(|member| member.guest.clone());
        let bare = self.carrier.filter(|_| self.members.is_empty());
        let bare = bare.map(|mac| GuestInterface {
            mac,
            over: None,
            ipv4: None,
            ipv6: None,
        });
        members.chain(bare).collect()
    }
}

/// Everything that follows from a container's connections.
#[derive(Debug, Clone)]
pub struct Connected {
    /// For the supervisor.
    pub plan: NetworkPlan,
    /// `/etc/hosts` and its like.
    pub files: Vec<ProvidedFile>,
}

/// What becomes of a `--link` to a container that is in no common network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostLinks {
    /// An error: nothing starts like that.
    Refused,
    /// No line in `/etc/hosts`: networks change while the container runs, and a link comes back
    /// with the common network.
    LeftOut,
}

/// Puts it together.
pub fn connected(
    store: &Store,
    container: &Container,
    lost: LostLinks,
) -> Result<Connected, NetworkError> {
    let endpoints = store.endpoints(&container.id)?;
    if endpoints.len() > vmm::MAX_INTERFACES {
        return Err(NetworkError::TooMany(vmm::MAX_INTERFACES));
    }
    let config = &container.config;
    let wants_host = config.extra_hosts.iter().any(|(_, a)| a == HOST_GATEWAY);
    let gateway = match wants_host {
        true => Some(host::gateway().ok_or(NetworkError::NoHostGateway)?),
        false => None,
    };
    let files = vec![
        file(
            "/etc/hosts",
            hosts(store, container, &endpoints, gateway, lost)?,
        ),
        file("/etc/hostname", format!("{}\n", config.hostname)),
        file("/etc/resolv.conf", resolv_conf(container, &endpoints)),
    ];
    let members: Vec<Member> = endpoints
        .iter()
        .zip(guest_interfaces(&endpoints))
        .map(|((network, endpoint), guest)| Member {
            interface: interface(container, network, endpoint),
            guest,
        })
        .collect();
    let own = match members.first() {
        Some(first) => Some(first.interface.mac),
        None => (!config.network.is_none()).then(|| bare_mac(&container.id)),
    };
    let plan = NetworkPlan {
        request: LinkRequest {
            version: VERSION,
            container: container.id.clone(),
            interfaces: Vec::new(),
            ports: Vec::new(),
            target: None,
            dns: config.dns.iter().filter_map(|a| a.parse().ok()).collect(),
            host_addresses: Vec::new(),
            host_gateway: gateway,
        },
        members,
        carrier: own,
        publish: config.network.publish.clone(),
        // A port that nobody answers at would be no help.
        optional: !config.network.explicit && config.network.publish.is_empty(),
    };
    Ok(Connected { plan, files })
}

/// The hardware address of an interface that is in no network: of the locally administered
/// ones, and never seen by anybody.
fn bare_mac(id: &str) -> [u8; 6] {
    let mut mac = [2, 0x48, 0, 0, 0, 0];
    for (to, from) in mac.iter_mut().skip(2).zip(id.bytes()) {
        *to = from;
    }
    mac
}

/// What the holder is told of one connection.
pub fn interface(container: &Container, network: &Network, endpoint: &Endpoint) -> Interface {
    let config = &network.config;
    let mut names = vec![container.name.clone()];
    names.extend(endpoint.aliases.iter().cloned());
    names.push(container.short_id().to_owned());
    Interface {
        network: Segment {
            id: network.id.clone(),
            bridge: network.bridge(),
            ipv4: (config.gateway, config.subnet.prefix_len()),
            ipv6: config
                .gateway6
                .zip(config.subnet6)
                .map(|(gateway, subnet)| (gateway, subnet.prefix_len())),
            internal: config.internal,
            // As docker: on the default network names are a matter of --link.
            names: !network.is_default(),
        },
        mac: endpoint.mac,
        ipv4: endpoint.ipv4,
        ipv6: endpoint.ipv6,
        names,
    }
}

/// The guest's interfaces; the first network that leads outside gets everything that no
/// network has.
fn guest_interfaces(endpoints: &[(Network, Endpoint)]) -> Vec<GuestInterface> {
    let leads = |(network, _): &(Network, Endpoint)| !network.config.internal;
    let way_out = endpoints.iter().position(leads);
    let leads6 = |pair: &(Network, Endpoint)| leads(pair) && pair.1.ipv6.is_some();
    let way_out6 = endpoints.iter().position(leads6);
    let one = |(number, (network, endpoint)): (usize, &(Network, Endpoint))| {
        let config = &network.config;
        let ipv4 = InterfaceAddress {
            address: endpoint.ipv4.octets(),
            prefix: config.subnet.prefix_len(),
            gateway: (way_out == Some(number)).then(|| config.gateway.octets()),
        };
        let ipv6 = endpoint.ipv6.zip(config.subnet6);
        let ipv6 = ipv6.map(|(address, subnet)| InterfaceAddress {
            address: address.octets(),
            prefix: subnet.prefix_len(),
            gateway: config
                .gateway6
                .filter(|_| way_out6 == Some(number))
                .map(|gateway| gateway.octets()),
        });
        GuestInterface {
            mac: endpoint.mac,
            over: None,
            ipv4: Some(ipv4),
            ipv6,
        }
    };
    endpoints.iter().enumerate().map(one).collect()
}

fn file(path: &str, content: String) -> ProvidedFile {
    ProvidedFile {
        path: path.to_owned(),
        content: content.into_bytes(),
        mode: 0o644,
        uid: 0,
        gid: 0,
    }
}

fn hosts(
    store: &Store,
    container: &Container,
    endpoints: &[(Network, Endpoint)],
    gateway: Option<Ipv4Addr>,
    lost: LostLinks,
) -> Result<String, NetworkError> {
    let config = &container.config;
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for (name, address) in &config.extra_hosts {
        match (address.as_str(), gateway) {
            (HOST_GATEWAY, Some(gateway)) => text.push_str(&format!("{gateway}\t{name}\n")),
            _ => text.push_str(&format!("{address}\t{name}\n")),
        }
    }
    for (linked, alias) in &config.network.links {
        let (target, address) = match find_linked(store, container, endpoints, linked) {
            Err(NetworkError::NoLinked(_) | NetworkError::OtherNetwork { .. })
                if lost == LostLinks::LeftOut =>
            {
                continue;
            }
            found => found?,
        };
        let mut names = vec![alias.as_str(), target.config.hostname.as_str()];
        if target.name != *alias {
            names.push(&target.name);
        }
        text.push_str(&format!("{address}\t{}\n", names.join(" ")));
    }
    let own: Vec<IpAddr> = endpoints
        .iter()
        .flat_map(|(_, e)| [Some(IpAddr::V4(e.ipv4)), e.ipv6.map(IpAddr::V6)])
        .flatten()
        .collect();
    if own.is_empty() {
        text.push_str(&format!("127.0.1.1\t{}\n", config.hostname));
    }
    for address in own {
        text.push_str(&format!("{address}\t{}\n", config.hostname));
    }
    Ok(text)
}

/// A linked container and its address on a network of both.
fn find_linked(
    store: &Store,
    container: &Container,
    endpoints: &[(Network, Endpoint)],
    linked: &str,
) -> Result<(Box<Container>, Ipv4Addr), NetworkError> {
    let Found::One(target) = store.find_container(linked)? else {
        return Err(NetworkError::NoLinked(linked.to_owned()));
    };
    let theirs = store.endpoints(&target.id)?;
    let shared = theirs
        .iter()
        .find(|(network, _)| endpoints.iter().any(|(own, _)| own.id == network.id));
    match shared {
        Some((_, endpoint)) => Ok((target, endpoint.ipv4)),
        None => Err(NetworkError::OtherNetwork {
            linked: linked.to_owned(),
            container: container.name.clone(),
        }),
    }
}

fn resolv_conf(container: &Container, endpoints: &[(Network, Endpoint)]) -> String {
    let config = &container.config;
    let mut text = String::new();
    let mut search = config.network.dns_search.clone();
    match endpoints.first() {
        // As docker: members of the default network ask the servers of --dns themselves.
        first if !config.dns.is_empty() && first.is_none_or(|(first, _)| first.is_default()) => {
            for server in &config.dns {
                text.push_str(&format!("nameserver {server}\n"));
            }
        }
        None => {}
        Some((first, _)) => {
            // The name server of the network knows the other members, and asks --dns or the
            // host's servers for the rest.
            text.push_str(&format!("nameserver {}\n", first.config.gateway));
            if search.is_empty() {
                search = hosts_search();
            }
        }
    }
    search.retain(|domain| domain != ".");
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    if !config.network.dns_options.is_empty() {
        text.push_str(&format!(
            "options {}\n",
            config.network.dns_options.join(" ")
        ));
    }
    text
}

/// The domains that the host searches.
fn hosts_search() -> Vec<String> {
    let mut list = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    list.truncate(list.floor_char_boundary(RESOLV_CONF));
    let last = list.lines().rev().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("search")).then(|| words.map(str::to_owned).collect())
    });
    last.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::record::NetworkConfig;

    fn pair(name: &str, address: [u8; 4], internal: bool) -> (Network, Endpoint) {
        let network = Network {
            id: name.repeat(8),
            name: name.into(),
            created: 0,
            config: NetworkConfig {
                subnet: "10.0.0.0/8".parse().unwrap(),
                gateway: [10, 0, 0, 1].into(),
                range: None,
                subnet6: None,
                gateway6: None,
                auxiliary: Default::default(),
                internal,
                labels: Default::default(),
                options: Default::default(),
            },
        };
        let endpoint = Endpoint {
            container: "c".into(),
            network: network.id.clone(),
            ipv4: address.into(),
            ipv6: None,
            mac: [2, 0, 0, 0, 0, address[3]],
            aliases: vec!["alias".into()],
        };
        (network, endpoint)
    }

    #[test]
    fn only_networks_that_lead_outside_get_the_default_route() {
        let endpoints = [
            pair("in", [10, 0, 0, 2], true),
            pair("out", [10, 0, 0, 3], false),
        ];
        let interfaces = guest_interfaces(&endpoints);
        let gateways: Vec<_> = interfaces
            .iter()
            .map(|one| one.ipv4.as_ref().unwrap().gateway)
            .collect();
        assert_eq!(gateways, [None, Some([10, 0, 0, 1])]);
    }
}
