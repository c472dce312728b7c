//! Network interfaces, as the host wants them in the guest.

use serde::{Deserialize, Serialize};

/// An interface of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its hardware address, by which it is found.
    pub mac: [u8; 6],
    /// What its frames come over, for a network that is joined while the guest runs.
    #[serde(default)]
    pub over: Option<Vlan>,
    /// Its IPv4 address. An interface without any address carries at most VLANs; a VLAN
    /// without one is removed.
    pub ipv4: Option<InterfaceAddress<4>>,
    /// Its IPv6 address; without one the interface does not speak IPv6 at all.
    pub ipv6: Option<InterfaceAddress<16>>,
}

/// Another hardware address for an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardwareAddress {
    /// The one that it has.
    pub now: [u8; 6],
    /// The one that it gets.
    pub wanted: [u8; 6],
}

/// A VLAN (IEEE 802.1Q) on another interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vlan {
    /// The other interface's hardware address.
    pub carrier: [u8; 6],
    /// From 1 to 4094.
    pub number: u16,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(
    serialize = "[u8; N]: Serialize",
    deserialize = "[u8; N]: Deserialize<'de>"
))]
pub struct InterfaceAddress<const N: usize> {
    /// The address.
    pub address: [u8; N],
    /// How many of its bits are the network's.
    pub prefix: u8,
    /// Where everything else goes, if this interface leads there.
    pub gateway: Option<[u8; N]>,
}
