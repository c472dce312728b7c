//! The guest's network interfaces: addresses and routes as the host says, with nothing asked
//! of any network.

use std::fs;
use std::io;
use std::path::Path;

use guest_agent::protocol::{AgentError, HardwareAddress, Interface, Vlan};
use nix::errno::Errno;

use crate::error::{Result, guest, invalid, reason};
use crate::sys::network as sys;

const INTERFACES: &str = "/sys/class/net";

/// Names beyond `eth` and this number are not given.
const MAX_INTERFACES: usize = 4096;

/// Sets up one interface, or takes it out of use when it has no address.
pub fn configure(interface: &Interface) -> Result<()> {
    let unused = interface.ipv4.is_none() && interface.ipv6.is_none();
    let name = match (find(interface.mac)?, &interface.over) {
        (Some(name), Some(_)) if unused => {
            return sys::remove_vlan(&name)
                .map_err(|e| guest(format!("cannot remove the interface {name}"), reason(e)));
        }
        (None, Some(_)) if unused => return Ok(()),
        (Some(name), _) => name,
        (None, Some(vlan)) => add_vlan(vlan, interface.mac)?,
        (None, None) => return Err(missing(interface.mac)),
    };
    let failed = |e: Errno| guest(format!("cannot set up the interface {name}"), reason(e));
    prepare_ipv6(&name, interface.ipv6.is_some())
        .map_err(|e| guest(format!("cannot prepare IPv6 on {name}"), e))?;
    match &interface.ipv4 {
        Some(ipv4) => sys::set_ipv4(&name, ipv4.address.into(), ipv4.prefix).map_err(failed)?,
        // The last address takes the routes along.
        None => sys::clear_ipv4(&name).map_err(failed)?,
    }
    sys::set_up(&name).map_err(failed)?;
    if let Some(ipv6) = &interface.ipv6 {
        present(sys::set_ipv6(&name, ipv6.address.into(), ipv6.prefix)).map_err(failed)?;
    }
    let routed = |e: Errno| guest("cannot set the default route", reason(e));
    if let Some(gateway) = interface.ipv4.as_ref().and_then(|ipv4| ipv4.gateway) {
        present(sys::route_ipv4(gateway.into())).map_err(routed)?;
    }
    if let Some(gateway) = interface.ipv6.as_ref().and_then(|ipv6| ipv6.gateway) {
        present(sys::route_ipv6(&name, gateway.into())).map_err(routed)?;
    }
    Ok(())
}

/// Takes an interface up that gets its addresses later.
pub fn take_up(mac: [u8; 6]) -> Result<()> {
    let name = find(mac)?.ok_or_else(|| missing(mac))?;
    prepare_ipv6(&name, false).map_err(|e| guest(format!("cannot prepare IPv6 on {name}"), e))?;
    sys::set_up(&name).map_err(|e| guest(format!("cannot take up {name}"), reason(e)))
}

/// Gives an interface another hardware address.
pub fn readdress(change: HardwareAddress) -> Result<()> {
    let name = find(change.now)?.ok_or_else(|| missing(change.now))?;
    sys::set_mac(&name, change.wanted).map_err(|e| {
        let wanted = text(change.wanted);
        guest(
            format!("cannot give {name} the address {wanted}"),
            reason(e),
        )
    })
}

/// What is there already is as good.
fn present(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// Makes an interface of a VLAN's frames, with a name as the others have.
fn add_vlan(vlan: &Vlan, mac: [u8; 6]) -> Result<String> {
    let carrier = find(vlan.carrier)?.ok_or_else(|| missing(vlan.carrier))?;
    let failed = |e: Errno| {
        let number = vlan.number;
        guest(format!("cannot add VLAN {number} on {carrier}"), reason(e))
    };
    let free = |number: &usize| !Path::new(INTERFACES).join(format!("eth{number}")).exists();
    let number = (1..MAX_INTERFACES).find(free);
    let name = format!("eth{}", number.ok_or_else(|| failed(Errno::ENFILE))?);
    let made = sys::add_vlan(&carrier, vlan.number).map_err(failed)?;
    let named = sys::set_mac(&made, mac).and_then(|()| sys::rename(&made, &name));
    if let Err(e) = named {
        // It has its carrier's address, which must stay one interface's.
        let _ = sys::remove_vlan(&made);
        return Err(failed(e));
    }
    Ok(name)
}

fn missing(mac: [u8; 6]) -> AgentError {
    invalid(format!("this guest has no interface {}", text(mac)))
}

fn text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// The interface with this hardware address, if there is one.
fn find(mac: [u8; 6]) -> Result<Option<String>> {
    let wanted = text(mac);
    let is_it = |name: &Path| {
        let address = Path::new(INTERFACES).join(name).join("address");
        fs::read_to_string(address).is_ok_and(|found| found.trim() == wanted)
    };
    // Most guests have this one only.
    let first = "eth0";
    if is_it(Path::new(first)) {
        return Ok(Some(first.to_owned()));
    }
    let entries = fs::read_dir(INTERFACES).map_err(|e| guest("cannot list interfaces", e))?;
    for name in entries.flatten().map(|entry| entry.file_name()) {
        if is_it(Path::new(&name)) {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
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
