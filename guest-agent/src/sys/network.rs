//! Addresses and routes, by the calls that are older than netlink and need no library.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `struct in6_ifreq` of `linux/ipv6.h`.
#[repr(C)]
struct Ipv6Request {
    address: libc::in6_addr,
    prefix: u32,
    interface: libc::c_int,
}

/// `struct in6_rtmsg` of `linux/ipv6_route.h`.
#[repr(C)]
struct Ipv6Route {
    destination: libc::in6_addr,
    source: libc::in6_addr,
    gateway: libc::in6_addr,
    kind: u32,
    destination_prefix: u16,
    source_prefix: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    interface: libc::c_int,
}

/// The metric of routes that nobody ranked.
const METRIC: u32 = 1024;

fn any_socket(family: AddressFamily) -> nix::Result<OwnedFd> {
    socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
}

fn request(interface: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(interface.bytes())
    {
        *to = from as libc::c_char;
    }
    request
}

fn ipv4(address: Ipv4Addr) -> libc::sockaddr {
    let mut bytes = [0; 14];
    // Behind the port.
    for (to, from) in bytes[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: bytes,
    }
}

/// Takes an interface up.
pub fn set_up(interface: &str) -> nix::Result<()> {
    let mut request = request(interface);
    let flags = libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_MULTICAST;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    interface_call(libc::SIOCSIFFLAGS, &request)
}

/// One of the calls that read one `ifreq`.
fn interface_call(number: libc::Ioctl, request: &libc::ifreq) -> nix::Result<()> {
    let socket = any_socket(AddressFamily::Inet)?;
    // SAFETY: the callers' calls all read one ifreq, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw const *request) })?;
    Ok(())
}

/// Gives an interface another name; it must be down.
pub fn rename(interface: &str, name: &str) -> nix::Result<()> {
    let mut asked = request(interface);
    asked.ifr_ifru.ifru_newname = request(name).ifr_name;
    interface_call(libc::SIOCSIFNAME, &asked)
}

/// Gives an interface its hardware address.
pub fn set_mac(interface: &str, mac: [u8; 6]) -> nix::Result<()> {
    let mut request = request(interface);
    let mut bytes = [0; 14];
    for (to, from) in bytes.iter_mut().zip(mac) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_hwaddr = libc::sockaddr {
        sa_family: libc::ARPHRD_ETHER,
        sa_data: bytes,
    };
    interface_call(libc::SIOCSIFHWADDR, &request)
}

/// `struct vlan_ioctl_args` of `linux/if_vlan.h`.
#[repr(C)]
struct VlanRequest {
    command: libc::c_int,
    interface: [libc::c_char; 24],
    number: libc::c_int,
    /// The rest of a union with a name.
    unused: [u8; 20],
    priority: libc::c_short,
}

const SIOCSIFVLAN: libc::Ioctl = 0x8983;
const ADD_VLAN: libc::c_int = 0;
const REMOVE_VLAN: libc::c_int = 1;

fn vlan_call(command: libc::c_int, interface: &str, number: u16) -> nix::Result<()> {
    let mut request = VlanRequest {
        command,
        interface: [0; 24],
        number: number.into(),
        unused: [0; 20],
        priority: 0,
    };
    for (to, from) in request.interface[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(interface.bytes())
    {
        *to = from as libc::c_char;
    }
    let socket = any_socket(AddressFamily::Inet)?;
    // SAFETY: SIOCSIFVLAN reads one vlan_ioctl_args, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCSIFVLAN, &raw mut request) })?;
    Ok(())
}

/// Makes an interface of a VLAN's frames on another one; its name.
pub fn add_vlan(carrier: &str, number: u16) -> nix::Result<String> {
    vlan_call(ADD_VLAN, carrier, number)?;
    Ok(format!("{carrier}.{number}"))
}

/// Removes what [`add_vlan`] made, whatever it is called by now.
pub fn remove_vlan(interface: &str) -> nix::Result<()> {
    vlan_call(REMOVE_VLAN, interface, 0)
}

/// Takes an interface's IPv4 address away.
pub fn clear_ipv4(interface: &str) -> nix::Result<()> {
    let mut request = request(interface);
    request.ifr_ifru.ifru_addr = ipv4(Ipv4Addr::UNSPECIFIED);
    interface_call(libc::SIOCSIFADDR, &request)
}

/// Gives an interface its IPv4 address.
pub fn set_ipv4(interface: &str, address: Ipv4Addr, prefix: u8) -> nix::Result<()> {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    let mut request = request(interface);
    request.ifr_ifru.ifru_addr = ipv4(address);
    interface_call(libc::SIOCSIFADDR, &request)?;
    request.ifr_ifru.ifru_netmask = ipv4(mask.into());
    interface_call(libc::SIOCSIFNETMASK, &request)
}

/// Sends what has no other way to an IPv4 gateway.
pub fn route_ipv4(gateway: Ipv4Addr) -> nix::Result<()> {
    let socket = any_socket(AddressFamily::Inet)?;
    // SAFETY: all-zero bytes are a valid rtentry: null pointers and numbers.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = ipv4(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = ipv4(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = ipv4(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: SIOCADDRT reads one rtentry, which outlives the call; its device name is null,
    // which means any.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) })?;
    Ok(())
}

fn index(interface: &str) -> nix::Result<libc::c_int> {
    let socket = any_socket(AddressFamily::Inet)?;
    let mut request = request(interface);
    // SAFETY: SIOCGIFINDEX reads and writes one ifreq, which outlives the call.
    Errno::result(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX, &raw mut request)
    })?;
    // SAFETY: SIOCGIFINDEX has just set this member.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex })
}

fn in6(address: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr {
        s6_addr: address.octets(),
    }
}

/// Gives an interface, which is up, an IPv6 address.
pub fn set_ipv6(interface: &str, address: Ipv6Addr, prefix: u8) -> nix::Result<()> {
    let socket = any_socket(AddressFamily::Inet6)?;
    let request = Ipv6Request {
        address: in6(address),
        prefix: prefix.into(),
        interface: index(interface)?,
    };
    // SAFETY: SIOCSIFADDR of an IPv6 socket reads one in6_ifreq, which outlives the call.
    Errno::result(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request)
    })?;
    Ok(())
}

/// Sends what has no other way to an IPv6 gateway.
pub fn route_ipv6(interface: &str, gateway: Ipv6Addr) -> nix::Result<()> {
    let socket = any_socket(AddressFamily::Inet6)?;
    let any = in6(Ipv6Addr::UNSPECIFIED);
    let route = Ipv6Route {
        destination: any,
        source: any,
        gateway: in6(gateway),
        kind: 0,
        destination_prefix: 0,
        source_prefix: 0,
        metric: METRIC,
        info: 0,
        flags: u32::from(libc::RTF_UP | libc::RTF_GATEWAY),
        interface: index(interface)?,
    };
    // SAFETY: SIOCADDRT of an IPv6 socket reads one in6_rtmsg, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) })?;
    Ok(())
}
