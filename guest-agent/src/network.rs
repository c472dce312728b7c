//! The guest's network interfaces: addresses and routes as the host says, with nothing asked
//! of any network.

use std::fs;
use std::io;
use std::path::Path;

use guest_agent::protocol::Interface;
use nix::errno::Errno;

use crate::error::{Result, guest, invalid, reason};
use crate::sys::network as sys;

const INTERFACES: &str = "/sys/class/net";

/// Sets up or takes down one interface.
pub fn configure(interface: &Interface) -> Result<()> {
    let name = find(interface.mac)?;
    let failed = |e: Errno| guest(format!("cannot set up the interface {name}"), reason(e));
    if interface.ipv4.is_none() && interface.ipv6.is_none() {
        return sys::set_up(&name, false).map_err(failed);
    }
    prepare_ipv6(&name, interface.ipv6.is_some())
        .map_err(|e| guest(format!("cannot prepare IPv6 on {name}"), e))?;
    if let Some(ipv4) = &interface.ipv4 {
        sys::set_ipv4(&name, ipv4.address.into(), ipv4.prefix).map_err(failed)?;
    }
    sys::set_up(&name, true).map_err(failed)?;
    if let Some(ipv6) = &interface.ipv6 {
        sys::set_ipv6(&name, ipv6.address.into(), ipv6.prefix).map_err(failed)?;
    }
    if let Some(gateway) = interface.ipv4.as_ref().and_then(|ipv4| ipv4.gateway) {
        routed(sys::route_ipv4(gateway.into()))?;
    }
    if let Some(gateway) = interface.ipv6.as_ref().and_then(|ipv6| ipv6.gateway) {
        routed(sys::route_ipv6(&name, gateway.into()))?;
    }
    Ok(())
}

/// A route that is there already is as good.
fn routed(result: nix::Result<()>) -> Result<()> {
    match result {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(guest("cannot set the default route", reason(e))),
    }
}

/// The interface with this hardware address.
fn find(mac: [u8; 6]) -> Result<String> {
    let [a, b, c, d, e, f] = mac;
    let wanted = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    let entries = fs::read_dir(INTERFACES).map_err(|e| guest("cannot list interfaces", e))?;
    for name in entries.flatten().map(|entry| entry.file_name()) {
        let address = Path::new(INTERFACES).join(&name).join("address");
        if fs::read_to_string(address).is_ok_and(|found| found.trim() == wanted) {
            return Ok(name.to_string_lossy().into_owned());
        }
    }
    Err(invalid(format!("this guest has no interface {wanted}")))
}

/// An address that the host gave is nobody else's: it is used without asking around first.
fn prepare_ipv6(name: &str, wanted: bool) -> io::Result<()> {
    let directory = Path::new("/proc/sys/net/ipv6/conf").join(name);
    if !directory.exists() {
        return Ok(());
    }
    if !wanted {
        return fs::write(directory.join("disable_ipv6"), "1");
    }
    fs::write(directory.join("disable_ipv6"), "0")?;
    fs::write(directory.join("accept_ra"), "0")?;
    fs::write(directory.join("accept_dad"), "0")
}
