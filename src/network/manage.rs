//! Making networks: what is asked for, completed and checked.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::address::{free_subnet, overlap, overlap6};
use super::host;
use super::record::{Network, NetworkConfig};
use crate::id;
use crate::store::{Store, StoreError};

/// Names that mean something else.
const PREDEFINED: [&str; 4] = ["bridge", "default", "host", "none"];

/// The largest host part of an IPv4 subnet that is offered; what is smaller has no room.
const SMALLEST: u8 = 29;

/// Options of `network create`.
#[derive(Debug, Clone, Default)]
pub struct NewNetwork {
    /// Its name.
    pub name: String,
    /// Its subnets, at most one of each kind.
    pub subnets: Vec<IpNet>,
    /// The bridge's addresses.
    pub gateways: Vec<IpAddr>,
    /// The part of a subnet that containers get addresses of.
    pub range: Option<Ipv4Net>,
    /// Addresses that no container gets, with what they are for.
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
    /// Nothing leads outside.
    pub internal: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of docker's driver.
    pub options: BTreeMap<String, String>,
}

/// Why a network cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A name that none can have.
    #[error("invalid network name {0:?}, use letters, digits and any of _.- after the first")]
    Name(String),
    /// One of docker's own.
    #[error("operation is not permitted on predefined {0} network")]
    Predefined(String),
    /// It is there.
    #[error("network with name {0} already exists")]
    Exists(String),
    /// Another network has these addresses.
    #[error(
        "Pool overlaps with other one on this address space: {subnet} and {other} of network {name}"
    )]
    Overlap {
        /// The subnet.
        subnet: String,
        /// The other's subnet.
        other: String,
        /// The other network.
        name: String,
    },
    /// No subnet is left.
    #[error("no free subnet is left for a network, remove some or give one with --subnet")]
    NoSubnet,
    /// The subnet is not one that containers could use.
    #[error("subnet {0} has no room for containers, use /{SMALLEST} or larger")]
    Small(Ipv4Net),
    /// The subnet is none that packets are sent to.
    #[error("subnet {0} is not for a network of containers, use a private one such as 10.5.0.0/16")]
    Unusable(IpNet),
    /// Several of a kind.
    #[error("a network has one subnet and one gateway of each kind")]
    Several,
    /// Not in the subnet.
    #[error("{what} {address} does not belong to a subnet of the network")]
    Outside {
        /// What it is.
        what: &'static str,
        /// The address.
        address: String,
    },
    /// IPv6 needs addresses.
    #[error("an IPv6 network needs --ipv6 and an IPv6 --subnet such as fd00:1::/64")]
    Ipv6,
    /// No randomness, or the host's addresses cannot be read.
    #[error("making a network: {0}")]
    Io(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a network.
pub fn create(store: &Store, asked: &NewNetwork, now: i64) -> Result<Network, CreateError> {
    check_name(&asked.name)?;
    let ids = id::generate()?;
    let hosts = host::subnets()?;
    store.create_network(|others| complete(asked, others, &hosts, ids, now))?
}

fn check_name(name: &str) -> Result<(), CreateError> {
    if PREDEFINED.contains(&name) {
        return Err(CreateError::Predefined(name.to_owned()));
    }
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) && name.len() <= 128
    {
        return Ok(());
    }
    Err(CreateError::Name(name.chars().take(140).collect()))
}

/// `asked` with what it leaves open, checked against the other networks.
fn complete(
    asked: &NewNetwork,
    others: &[Network],
    hosts: &[Ipv4Net],
    id: String,
    now: i64,
) -> Result<Network, CreateError> {
    if others.iter().any(|other| other.name == asked.name) {
        return Err(CreateError::Exists(asked.name.clone()));
    }
    let (mut subnet, mut subnet6) = (None, None);
    for net in &asked.subnets {
        let again = match net {
            IpNet::V4(net) => subnet.replace(net.trunc()).is_some(),
            IpNet::V6(net) => subnet6.replace(net.trunc()).is_some(),
        };
        if again {
            return Err(CreateError::Several);
        }
    }
    if asked.ipv6 != subnet6.is_some() {
        return Err(CreateError::Ipv6);
    }
    let subnet = match subnet {
        Some(subnet) => {
            check_subnet(subnet, others)?;
            subnet
        }
        None => {
            let used = others.iter().map(|other| other.config.subnet);
            let used: Vec<Ipv4Net> = used.chain(hosts.iter().copied()).collect();
            free_subnet(&used).ok_or(CreateError::NoSubnet)?
        }
    };
    if let Some(subnet) = subnet6 {
        check_subnet6(subnet, others)?;
    }
    let mut gateway = (u32::from(subnet.network()) + 1).into();
    let mut gateway6 = subnet6.map(|net| (u128::from(net.network()) + 1).into());
    for address in &asked.gateways {
        let outside = || CreateError::Outside {
            what: "gateway",
            address: address.to_string(),
        };
        match address {
            IpAddr::V4(address) => {
                let inside = subnet.contains(address)
                    && *address != subnet.network()
                    && *address != subnet.broadcast();
                gateway = inside.then_some(*address).ok_or_else(outside)?;
            }
            IpAddr::V6(address) => {
                let inside = subnet6.is_some_and(|net| net.contains(address));
                gateway6 = Some(inside.then_some(*address).ok_or_else(outside)?);
            }
        }
    }
    if let Some(range) = asked.range
        && !subnet.contains(&range)
    {
        return Err(CreateError::Outside {
            what: "range",
            address: range.to_string(),
        });
    }
    for address in asked.auxiliary.values() {
        let inside = match address {
            IpAddr::V4(address) => subnet.contains(address),
            IpAddr::V6(address) => subnet6.is_some_and(|net| net.contains(address)),
        };
        if !inside {
            return Err(CreateError::Outside {
                what: "auxiliary address",
                address: address.to_string(),
            });
        }
    }
    Ok(Network {
        id,
        name: asked.name.clone(),
        created: now,
        config: NetworkConfig {
            subnet,
            gateway,
            range: asked.range,
            auxiliary: asked.auxiliary.clone(),
            subnet6,
            gateway6,
            internal: asked.internal,
            labels: asked.labels.clone(),
            options: asked.options.clone(),
        },
    })
}

fn check_subnet(subnet: Ipv4Net, others: &[Network]) -> Result<(), CreateError> {
    let first = subnet.network();
    if first.is_loopback()
        || first.is_multicast()
        || first.is_unspecified()
        || subnet.prefix_len() < 8
    {
        return Err(CreateError::Unusable(subnet.into()));
    }
    if subnet.prefix_len() > SMALLEST {
        return Err(CreateError::Small(subnet));
    }
    match others
        .iter()
        .find(|other| overlap(other.config.subnet, subnet))
    {
        None => Ok(()),
        Some(other) => Err(CreateError::Overlap {
            subnet: subnet.to_string(),
            other: other.config.subnet.to_string(),
            name: other.name.clone(),
        }),
    }
}

fn check_subnet6(subnet: Ipv6Net, others: &[Network]) -> Result<(), CreateError> {
    let first = subnet.network();
    let usable = first.is_unique_local() || first.segments()[0] & 0xe000 == 0x2000;
    if !usable || !(16..=112).contains(&subnet.prefix_len()) {
        return Err(CreateError::Unusable(subnet.into()));
    }
    for other in others {
        if let Some(theirs) = other.config.subnet6
            && overlap6(theirs, subnet)
        {
            return Err(CreateError::Overlap {
                subnet: subnet.to_string(),
                other: theirs.to_string(),
                name: other.name.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(asked: &NewNetwork, others: &[Network]) -> Result<Network, CreateError> {
        let hosts = ["172.18.4.0/24".parse().unwrap()];
        check_name(&asked.name)?;
        complete(asked, others, &hosts, "0".repeat(64), 0)
    }

    fn named(name: &str) -> NewNetwork {
        NewNetwork {
            name: name.into(),
            ..NewNetwork::default()
        }
    }

    #[test]
    fn networks_are_completed() {
        let first = made(&named("a"), &[]).unwrap();
        assert_eq!(first.config.subnet.to_string(), "172.17.0.0/16");
        // The host is in 172.18.4.0/24.
        let second = made(&named("b"), std::slice::from_ref(&first)).unwrap();
        assert_eq!(second.config.subnet.to_string(), "172.19.0.0/16");
        assert_eq!(second.config.gateway.to_string(), "172.19.0.1");
        let chosen = NewNetwork {
            subnets: vec![
                "10.5.0.7/24".parse().unwrap(),
                "fd00:5::/64".parse().unwrap(),
            ],
            gateways: vec!["10.5.0.254".parse().unwrap()],
            ipv6: true,
            ..named("c")
        };
        let chosen = made(&chosen, &[]).unwrap();
        assert_eq!(chosen.config.subnet.to_string(), "10.5.0.0/24");
        assert_eq!(chosen.config.gateway.to_string(), "10.5.0.254");
        assert_eq!(chosen.config.gateway6.unwrap().to_string(), "fd00:5::1");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let with = |subnet: &str| NewNetwork {
            subnets: vec![subnet.parse().unwrap()],
            ..named("x")
        };
        let first = made(&with("10.5.0.0/16"), &[]).unwrap();
        let others = [first];
        assert!(matches!(
            made(&named("x"), &others),
            Err(CreateError::Exists(_))
        ));
        let overlapping = NewNetwork {
            name: "y".into(),
            ..with("10.5.3.0/24")
        };
        assert!(matches!(
            made(&overlapping, &others),
            Err(CreateError::Overlap { .. })
        ));
        assert!(matches!(
            made(&with("127.0.0.0/8"), &[]),
            Err(CreateError::Unusable(_))
        ));
        assert!(matches!(
            made(&with("10.0.0.0/31"), &[]),
            Err(CreateError::Small(_))
        ));
        assert!(matches!(
            made(&with("fd00::/64"), &[]),
            Err(CreateError::Ipv6)
        ));
        assert!(matches!(
            made(&named("host"), &[]),
            Err(CreateError::Predefined(_))
        ));
        assert!(matches!(
            made(&named("a b"), &[]),
            Err(CreateError::Name(_))
        ));
        let gateway = NewNetwork {
            gateways: vec!["10.6.0.1".parse().unwrap()],
            ..with("10.5.0.0/16")
        };
        assert!(matches!(
            made(&gateway, &[]),
            Err(CreateError::Outside { .. })
        ));
    }
}
