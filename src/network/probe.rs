//! Whether networks work on this host, found out by making one.

use std::net::Ipv4Addr;

use super::host;
use super::link::{self, LinkError};
use super::wire::{Interface, LinkRequest, Segment, VERSION};
use crate::store::Paths;

/// Connects an interface that no guest has; the answer is what does not work besides.
pub fn probe(paths: &Paths) -> Result<Vec<String>, LinkError> {
    let request = LinkRequest {
        version: VERSION,
        container: "probe".to_owned(),
        interfaces: vec![Interface {
            network: Segment {
                id: "probe".to_owned(),
                bridge: "probe".to_owned(),
                // Of the addresses that are never routed.
                ipv4: (Ipv4Addr::new(169, 254, 3, 1), 24),
                ipv6: None,
                internal: false,
                names: false,
            },
            mac: [2, 0x42, 169, 254, 3, 2],
            ipv4: Ipv4Addr::new(169, 254, 3, 2),
            ipv6: None,
            names: Vec::new(),
        }],
        ports: Vec::new(),
        target: None,
        dns: Vec::new(),
        host_addresses: host::addresses()?,
        host_gateway: None,
    };
    Ok(link::establish(paths, &request, &[])?.warnings)
}
