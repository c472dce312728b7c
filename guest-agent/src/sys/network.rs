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

/// Takes an interface up or down.
pub fn set_up(interface: &str, up: bool) -> nix::Result<()> {
    let socket = any_socket(AddressFamily::Inet)?;
    let mut request = request(interface);
    let flags = if up {
        libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_MULTICAST
    } else {
        0
    };
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    Errno::result(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    })?;
    Ok(())
}

/// Gives an interface its IPv4 address.
pub fn set_ipv4(interface: &str, address: Ipv4Addr, prefix: u8) -> nix::Result<()> {
    let socket = any_socket(AddressFamily::Inet)?;
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    let mut request = request(interface);
    request.ifr_ifru.ifru_addr = ipv4(address);
    // SAFETY: SIOCSIFADDR reads one ifreq, which outlives the call.
    Errno::result(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request)
    })?;
    request.ifr_ifru.ifru_netmask = ipv4(mask.into());
    // SAFETY: SIOCSIFNETMASK reads one ifreq, which outlives the call.
    Errno::result(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFNETMASK, &raw const request)
    })?;
    Ok(())
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
