//! What is remembered of networks and of who is in them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::ports::Publish;

/// The network of a container whose user did not name one.
pub const DEFAULT: &str = "bridge";

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its unique name.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// What it was asked to be.
    pub config: NetworkConfig,
}

/// What a network is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Its addresses.
    pub subnet: Ipv4Net,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// The part of the addresses that containers get where nobody says which.
    #[serde(default)]
    pub range: Option<Ipv4Net>,
    /// Its IPv6 addresses.
    #[serde(default)]
    pub subnet6: Option<Ipv6Net>,
    /// The bridge's IPv6 address.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
    /// Addresses that no container gets, with what they are for.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Nothing leads outside.
    #[serde(default)]
    pub internal: bool,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Options of docker's bridge driver, which are shown and have no effect.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl NetworkConfig {
    /// Whether an address is somebody's outside of hull.
    pub fn is_auxiliary(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        self.auxiliary.values().any(|other| *other == address)
    }
}

impl Network {
    /// Whether it is the one that is always there.
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT
    }

    /// The name of its bridge.
    pub fn bridge(&self) -> String {
        if self.is_default() {
            return "hull0".to_owned();
        }
        format!("br-{}", self.id.get(..12).unwrap_or(&self.id))
    }
}

/// A container's connection to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The container's id.
    pub container: String,
    /// The network's id.
    pub network: String,
    /// The container's address there.
    pub ipv4: Ipv4Addr,
    /// The container's IPv6 address there.
    pub ipv6: Option<Ipv6Addr>,
    /// The interface's hardware address.
    pub mac: [u8; 6],
    /// Other names than the container's.
    pub aliases: Vec<String>,
}

impl Endpoint {
    /// The hardware address as people write it.
    pub fn mac_text(&self) -> String {
        let [a, b, c, d, e, f] = self.mac;
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// A connection that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's name, or its id or the beginning of it.
    pub network: String,
    /// Other names than the container's.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The address, where it is not left to hull.
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// The hardware address.
    #[serde(default)]
    pub mac: Option<[u8; 6]>,
}

/// What a container was asked to be on networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// `--network` as it was given, `bridge` where it was not; `none` (or nothing, for
    /// containers of older versions) is no network at all.
    pub mode: String,
    /// Whether the user asked for anything: what nobody asked for may be missing.
    pub explicit: bool,
    /// The connections to make when the container is made.
    pub attachments: Vec<Attachment>,
    /// `-p`.
    pub publish: Vec<Publish>,
    /// `-P`.
    pub publish_all: bool,
    /// `--link`: container and alias.
    pub links: Vec<(String, String)>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
}

impl Asked {
    /// Whether the container has no network.
    pub fn is_none(&self) -> bool {
        self.mode.is_empty() || self.mode == "none"
    }
}

/// Why a container cannot be connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No such network.
    #[error("network {0} not found")]
    NoNetwork(String),
    /// Several ids begin like that.
    #[error("network id prefix {0:?} is ambiguous, give more digits")]
    Ambiguous(String),
    /// It is there already.
    #[error("endpoint with name {container} already exists in network {network}")]
    Connected {
        /// The container's name.
        container: String,
        /// The network's name.
        network: String,
    },
    /// The address is not one of the network's.
    #[error(
        "invalid address {address}: it does not belong to the subnet {subnet} of network {network}"
    )]
    OutOfSubnet {
        /// The address.
        address: String,
        /// The network's subnet.
        subnet: String,
        /// The network's name.
        network: String,
    },
    /// Somebody else has it.
    #[error("Address already in use: {address} in network {network}")]
    AddressTaken {
        /// The address.
        address: String,
        /// The network's name.
        network: String,
    },
    /// Addresses of the default network are not chosen.
    #[error("user specified IP address is supported on user defined networks only")]
    DefaultNetwork,
    /// The network has no IPv6.
    #[error("network {0} has no IPv6 addresses, make one with --ipv6 and --subnet")]
    NoIpv6(String),
    /// All are taken.
    #[error("no available IPv4 addresses on network {0}")]
    Full(String),
}
