//! Choosing addresses: of a container in its network, of a network among the others.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::record::{Attachment, ConnectError, Network};

/// What is taken in a network.
#[derive(Debug, Default)]
pub struct Taken {
    /// IPv4 addresses.
    pub ipv4: HashSet<Ipv4Addr>,
    /// IPv6 addresses.
    pub ipv6: HashSet<Ipv6Addr>,
}

/// The addresses of one more container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// Always.
    pub ipv4: Ipv4Addr,
    /// In networks with IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// Made from the address, so it is as unique.
    pub mac: [u8; 6],
}

/// Chooses for `asked` in `network`.
pub fn choose(
    network: &Network,
    asked: &Attachment,
    taken: &Taken,
) -> Result<Chosen, ConnectError> {
    if network.is_default() && (asked.ipv4.is_some() || asked.ipv6.is_some()) {
        return Err(ConnectError::DefaultNetwork);
    }
    let ipv4 = choose_ipv4(network, asked, taken)?;
    let ipv6 = choose_ipv6(network, asked, taken, ipv4)?;
    Ok(Chosen {
        ipv4,
        ipv6,
        mac: asked.mac.unwrap_or(hardware(ipv4)),
    })
}

/// The hardware address that goes with an address, docker's.
pub fn hardware(ipv4: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ipv4.octets();
    [0x02, 0x42, a, b, c, d]
}

fn choose_ipv4(
    network: &Network,
    asked: &Attachment,
    taken: &Taken,
) -> Result<Ipv4Addr, ConnectError> {
    let config = &network.config;
    let subnet = config.subnet;
    let reserved = |address: Ipv4Addr| {
        address == subnet.network()
            || address == subnet.broadcast()
            || address == config.gateway
            || config.is_auxiliary(address)
    };
    if let Some(address) = asked.ipv4 {
        if !subnet.contains(&address) {
            return Err(ConnectError::OutOfSubnet {
                address: address.to_string(),
                subnet: subnet.to_string(),
                network: network.name.clone(),
            });
        }
        if reserved(address) || taken.ipv4.contains(&address) {
            return Err(ConnectError::AddressTaken {
                address: address.to_string(),
                network: network.name.clone(),
            });
        }
        return Ok(address);
    }
    let range = config.range.unwrap_or(subnet);
    let all = u32::from(range.network())..=u32::from(range.broadcast());
    all.map(Ipv4Addr::from)
        .find(|address| !reserved(*address) && !taken.ipv4.contains(address))
        .ok_or_else(|| ConnectError::Full(network.name.clone()))
}

fn choose_ipv6(
    network: &Network,
    asked: &Attachment,
    taken: &Taken,
    ipv4: Ipv4Addr,
) -> Result<Option<Ipv6Addr>, ConnectError> {
    let Some(subnet) = network.config.subnet6 else {
        return match asked.ipv6 {
            Some(_) => Err(ConnectError::NoIpv6(network.name.clone())),
            None => Ok(None),
        };
    };
    let reserved = |address: Ipv6Addr| {
        address == subnet.network()
            || Some(address) == network.config.gateway6
            || network.config.is_auxiliary(address)
    };
    if let Some(address) = asked.ipv6 {
        if !subnet.contains(&address) {
            return Err(ConnectError::OutOfSubnet {
                address: address.to_string(),
                subnet: subnet.to_string(),
                network: network.name.clone(),
            });
        }
        if reserved(address) || taken.ipv6.contains(&address) {
            return Err(ConnectError::AddressTaken {
                address: address.to_string(),
                network: network.name.clone(),
            });
        }
        return Ok(Some(address));
    }
    // The same place as in the other subnet, which is mostly free.
    let place = u32::from(ipv4) - u32::from(network.config.subnet.network());
    let first = u128::from(subnet.network()).saturating_add(place.into());
    let candidates = (first..=u128::from(subnet.broadcast())).take(1 << 16);
    candidates
        .map(Ipv6Addr::from)
        .find(|address| !reserved(*address) && !taken.ipv6.contains(address))
        .map(Some)
        .ok_or_else(|| ConnectError::Full(network.name.clone()))
}

/// The subnets that networks get where nobody says which, docker's.
fn pool() -> impl Iterator<Item = Ipv4Net> {
    let large = (17..32).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16));
    let small = (0..16).map(|n| (Ipv4Addr::new(192, 168, n * 16, 0), 20));
    large
        .chain(small)
        .filter_map(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
}

/// A subnet that overlaps none of `used`.
pub fn free_subnet(used: &[Ipv4Net]) -> Option<Ipv4Net> {
    pool().find(|subnet| !used.iter().any(|other| overlap(*subnet, *other)))
}

/// Whether two subnets share an address.
pub fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Whether two subnets share an address.
pub fn overlap6(a: Ipv6Net, b: Ipv6Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::record::NetworkConfig;
    use proptest::prelude::*;

    fn network(subnet: &str, gateway: &str) -> Network {
        Network {
            id: "x".into(),
            name: "net".into(),
            created: 0,
            config: NetworkConfig {
                subnet: subnet.parse().unwrap(),
                gateway: gateway.parse().unwrap(),
                range: None,
                subnet6: Some("fd00:1::/64".parse().unwrap()),
                gateway6: Some("fd00:1::1".parse().unwrap()),
                auxiliary: Default::default(),
                internal: false,
                labels: Default::default(),
                options: Default::default(),
            },
        }
    }

    #[test]
    fn addresses_are_given_in_order_and_once() {
        let net = network("10.5.0.0/29", "10.5.0.1");
        let mut taken = Taken::default();
        let mut given = Vec::new();
        while let Ok(chosen) = choose(&net, &Attachment::default(), &taken) {
            taken.ipv4.insert(chosen.ipv4);
            taken.ipv6.extend(chosen.ipv6);
            given.push(chosen.ipv4.to_string());
            assert_eq!(chosen.mac[..3], [2, 0x42, 10]);
        }
        assert_eq!(
            given,
            ["10.5.0.2", "10.5.0.3", "10.5.0.4", "10.5.0.5", "10.5.0.6"]
        );
        let asked = |text: &str| Attachment {
            ipv4: Some(text.parse().unwrap()),
            ..Attachment::default()
        };
        let refused = |text| choose(&net, &asked(text), &taken).unwrap_err();
        assert!(matches!(
            refused("10.5.0.3"),
            ConnectError::AddressTaken { .. }
        ));
        assert!(matches!(
            refused("10.5.0.1"),
            ConnectError::AddressTaken { .. }
        ));
        assert!(matches!(
            refused("10.6.0.3"),
            ConnectError::OutOfSubnet { .. }
        ));
    }

    #[test]
    fn subnets_are_free_ones() {
        let mut used = Vec::new();
        while let Some(subnet) = free_subnet(&used) {
            used.push(subnet);
        }
        assert_eq!(used.len(), 31);
        assert_eq!(used[0].to_string(), "172.17.0.0/16");
    }

    proptest! {
        #[test]
        fn what_is_chosen_belongs_to_the_network(prefix in 8_u8..30, base in any::<u32>()) {
            let subnet = Ipv4Net::new(base.into(), prefix).unwrap().trunc();
            let gateway = Ipv4Addr::from(u32::from(subnet.network()) + 1);
            let net = network(&subnet.to_string(), &gateway.to_string());
            let chosen = choose(&net, &Attachment::default(), &Taken::default()).unwrap();
            prop_assert!(subnet.contains(&chosen.ipv4) && chosen.ipv4 != gateway);
            prop_assert!(chosen.ipv4 != subnet.network() && chosen.ipv4 != subnet.broadcast());
        }
    }
}
