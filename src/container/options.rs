//! What options of a new container mean, for the command line and the API alike.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context as _, bail};

use super::network::HOST_GATEWAY;
use super::record::{Bind, Emulation};
use crate::settings::Settings;

/// Memory of a container where nobody says otherwise.
pub const DEFAULT_MEMORY: u64 = 512 << 20;
/// Docker's size of `/dev/shm`.
pub const DEFAULT_SHM: u64 = 64 << 20;

/// The largest writable layer.
const MAX_DISK: u64 = 1 << 40;
/// The smallest one that a file system with a journal fits in.
const MIN_DISK: u64 = 64 << 20;

/// Whether a writable layer can be of that size.
pub fn check_disk(size: u64) -> anyhow::Result<()> {
    if (MIN_DISK..=MAX_DISK).contains(&size) {
        return Ok(());
    }
    bail!("a writable layer of {size} bytes is not possible, give between 64m and 1t");
}

/// How foreign programs run where the user does not say.
pub fn emulation(settings: &Settings) -> anyhow::Result<Option<Emulation>> {
    match settings.defaults.emulation.as_deref() {
        None => Ok(None),
        Some("user") => Ok(Some(Emulation::User)),
        Some("system") => Ok(Some(Emulation::System)),
        Some(other) => bail!("unknown emulation {other:?} in the settings, use user or system"),
    }
}

/// Whether a log driver keeps no log.
pub fn no_log(driver: Option<&str>) -> anyhow::Result<bool> {
    match driver {
        None | Some("json-file" | "local") => Ok(false),
        Some("none") => Ok(true),
        Some(other) => bail!("unknown log driver {other:?}, use json-file or none"),
    }
}

/// Refuses the network modes that a machine of its own cannot have.
pub fn check_network_mode(mode: &str) -> anyhow::Result<()> {
    if mode == "host" {
        bail!(
            "--network host is not possible: a container is a machine of its own and has no part in the host's interfaces; publish its ports with -p, and reach the host with --add-host NAME:host-gateway"
        );
    }
    if mode.starts_with("container:") {
        bail!(
            "--network {mode} is not possible: every container is a machine with interfaces of its own; connect both to one network"
        );
    }
    Ok(())
}

/// Refuses to share with others what only a guest's own kernel has: `--ipc`, `--pid` and so on.
pub fn check_private(option: &str, mode: Option<&str>) -> anyhow::Result<()> {
    match mode {
        None | Some("" | "private" | "shareable") => Ok(()),
        Some(mode) => bail!(
            "{option} {mode}: a container has a kernel of its own and shares nothing of it, use private"
        ),
    }
}

/// Refuses two mounts at one place.
pub fn refuse_twice(binds: &[Bind], tmpfs: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let mut targets: BTreeSet<&str> = tmpfs
        .keys()
        .map(|path| path.trim_end_matches('/'))
        .collect();
    for bind in binds {
        if !targets.insert(&bind.target) {
            bail!("Duplicate mount point: {}", bind.target);
        }
    }
    Ok(())
}

/// `--cpus` as whole processors.
pub fn whole_cpus(count: f64) -> anyhow::Result<u32> {
    if !(count > 0.0 && count <= 64.0) {
        bail!("invalid number of CPUs {count}, give a number above 0 and up to 64");
    }
    // A guest has whole processors; half of one is one.
    Ok(count.ceil() as u32)
}

/// `--security-opt`: whether programs may not gain privileges.
pub fn no_new_privileges(options: &[String]) -> anyhow::Result<bool> {
    let mut on = false;
    for option in options {
        match option.as_str() {
            "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true" => on = true,
            "no-new-privileges:false" | "no-new-privileges=false" => on = false,
            // A guest has its own kernel: hull uses neither filter nor profile inside.
            "seccomp=unconfined" | "apparmor=unconfined" | "label=disable" | "label:disable" => {}
            other => bail!("security option {other:?} is not there yet, use no-new-privileges"),
        }
    }
    Ok(on)
}

/// Names and addresses of `--add-host`.
pub fn extra_hosts(specs: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    specs.iter().map(|spec| host(spec)).collect()
}

/// A hardware address of one interface.
pub fn parse_mac(text: &str) -> anyhow::Result<[u8; 6]> {
    let wrong = || format!("invalid MAC address {text:?}, use six numbers as in 02:42:ac:11:00:02");
    let parts = text.split([':', '-']).map(|part| match part.len() {
        2 => u8::from_str_radix(part, 16).ok(),
        _ => None,
    });
    let bytes: Vec<u8> = parts.collect::<Option<_>>().with_context(wrong)?;
    let mac: [u8; 6] = bytes.try_into().ok().with_context(wrong)?;
    if mac[0] & 1 != 0 || mac == [0; 6] {
        bail!("MAC address {text} is not that of one interface: its first number must be even");
    }
    Ok(mac)
}

/// `CONTAINER` or `CONTAINER:ALIAS`.
pub fn link(spec: &str) -> (String, String) {
    let (container, alias) = spec.split_once(':').unwrap_or((spec, spec));
    (container.to_owned(), alias.to_owned())
}

fn host(spec: &str) -> anyhow::Result<(String, String)> {
    let (name, address) = spec
        .split_once([':', '='])
        .with_context(|| format!("invalid host {spec:?}, use NAME:ADDRESS"))?;
    if address == HOST_GATEWAY && !name.is_empty() {
        return Ok((name.to_owned(), address.to_owned()));
    }
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() || bare.parse::<IpAddr>().is_err() {
        bail!("invalid host {spec:?}, use NAME:ADDRESS with an IP address or host-gateway");
    }
    Ok((name.to_owned(), bare.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        assert_eq!(host("db:10.0.0.1").unwrap().1, "10.0.0.1");
        assert_eq!(host("db:::1").unwrap().1, "::1");
        assert_eq!(host("db:host-gateway").unwrap().1, "host-gateway");
        assert!(host("db:host").is_err() && host(":1.2.3.4").is_err());
        assert_eq!(
            parse_mac("02:42:ac:11:00:02").unwrap(),
            [2, 0x42, 0xac, 0x11, 0, 2]
        );
        for bad in [
            "",
            "02:42:ac:11:00",
            "01:00:00:00:00:00",
            "2:4:a:1:0:2",
            "02:42:ac:11:00:0g",
        ] {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
        assert_eq!(link("db:store"), ("db".into(), "store".into()));
        assert_eq!(whole_cpus(0.5).unwrap(), 1);
        assert!(whole_cpus(0.0).is_err() && whole_cpus(f64::NAN).is_err());
        assert!(no_new_privileges(&["no-new-privileges".into()]).unwrap());
        assert!(no_new_privileges(&["label=x".into()]).is_err());
        assert!(check_network_mode("host").is_err() && check_network_mode("web").is_ok());
        assert!(check_private("--pid", Some("host")).is_err());
    }
}
