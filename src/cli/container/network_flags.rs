//! The options of `run` and `create` about networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::network::ports;
use crate::network::record::{Asked, Attachment, DEFAULT};

/// Options about networks.
#[derive(Debug, Args)]
pub struct NetworkFlags {
    /// Connect to a network: bridge, none or the name of one
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// Another name on the network
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// IPv4 address on the network
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address on the network
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Hardware address of the interface
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,
    /// Make another container known by a name
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// Publish a port of the container on the host
    #[arg(short, long, value_name = "[[IP:]HOST_PORT:]PORT[/udp]")]
    publish: Vec<String>,
    /// Publish all exposed ports on free ports of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Add a line to /etc/hosts; host-gateway stands for this host's address
    #[arg(long, value_name = "HOST:ADDRESS")]
    add_host: Vec<String>,
    /// Name server for names that are no container's
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Domain that names are searched in
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Option for /etc/resolv.conf
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
}

impl NetworkFlags {
    /// What the user asked for.
    pub fn asked(&self) -> anyhow::Result<Asked> {
        let mut attachments = Vec::new();
        for network in &self.network {
            match network.as_str() {
                "none" if self.network.len() > 1 => {
                    bail!("--network none cannot be combined with other networks")
                }
                "none" => {}
                "host" => bail!(
                    "--network host is not possible: a container is a machine of its own and has no part in the host's interfaces; publish its ports with -p, and reach the host with --add-host NAME:host-gateway"
                ),
                other if other.starts_with("container:") => bail!(
                    "--network {other} is not possible: every container is a machine with interfaces of its own; connect both to one network"
                ),
                "default" => attachments.push(attachment(DEFAULT)),
                other => attachments.push(attachment_of(other)?),
            }
        }
        if self.network.is_empty() {
            attachments.push(attachment(DEFAULT));
        }
        let publish = self.publish.iter().map(|spec| ports::parse(spec));
        let publish = publish.collect::<Result<Vec<_>, _>>()?.concat();
        match attachments.first_mut() {
            Some(first) => {
                first.aliases.extend(self.network_alias.iter().cloned());
                first.ipv4 = first.ipv4.or(self.ip);
                first.ipv6 = first.ipv6.or(self.ip6);
                if let Some(mac) = &self.mac_address {
                    first.mac = Some(parse_mac(mac)?);
                }
                if !first.aliases.is_empty() && first.network == DEFAULT {
                    bail!("network-scoped aliases are only supported for user-defined networks");
                }
            }
            None if self.ip.is_some() || self.ip6.is_some() || !self.network_alias.is_empty() => {
                bail!("an address or alias needs a network, and --network none is none")
            }
            // As docker: without a network there is nothing to publish.
            None => {}
        }
        let has_network = !attachments.is_empty();
        let mode = match self.network.first().map(String::as_str) {
            None | Some("default") => DEFAULT,
            Some(_) if !has_network => "none",
            Some(other) => attachments
                .first()
                .map_or(other, |first| first.network.as_str()),
        };
        Ok(Asked {
            mode: mode.to_owned(),
            explicit: !self.network.is_empty()
                || !publish.is_empty()
                || self.publish_all
                || !self.link.is_empty(),
            publish: if has_network { publish } else { Vec::new() },
            publish_all: self.publish_all && has_network,
            links: self.link.iter().map(|spec| link(spec)).collect(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_option.clone(),
            attachments,
        })
    }

    /// `--add-host`.
    pub fn extra_hosts(&self) -> anyhow::Result<Vec<(String, String)>> {
        extra_hosts(&self.add_host)
    }

    /// `--dns`.
    pub fn dns(&self) -> Vec<String> {
        self.dns.iter().map(IpAddr::to_string).collect()
    }
}

/// Names and addresses of `--add-host`.
pub fn extra_hosts(specs: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    specs.iter().map(|spec| host(spec)).collect()
}

fn attachment(network: &str) -> Attachment {
    Attachment {
        network: network.to_owned(),
        ..Attachment::default()
    }
}

/// `NAME` or docker's longer form, `name=NAME,alias=A,ip=10.0.0.2`.
fn attachment_of(spec: &str) -> anyhow::Result<Attachment> {
    if !spec.contains('=') {
        return Ok(attachment(spec));
    }
    let mut whole = Attachment::default();
    for part in spec.split(',') {
        let (key, value) = part
            .split_once('=')
            .with_context(|| format!("invalid network {spec:?}, use NAME or name=NAME,alias=A"))?;
        let wrong = || format!("invalid {key} in --network {spec:?}");
        match key {
            "name" => value.clone_into(&mut whole.network),
            "alias" => whole.aliases.push(value.to_owned()),
            "ip" => whole.ipv4 = Some(value.parse().with_context(wrong)?),
            "ip6" => whole.ipv6 = Some(value.parse().with_context(wrong)?),
            "mac-address" => whole.mac = Some(parse_mac(value)?),
            _ => bail!(
                "{key} in --network is not there yet, use name, alias, ip, ip6 or mac-address"
            ),
        }
    }
    if whole.network.is_empty() {
        bail!("--network {spec:?} names no network");
    }
    Ok(whole)
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
    if address == crate::container::network::HOST_GATEWAY && !name.is_empty() {
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
        let long = attachment_of("name=net,alias=a,alias=b,ip=10.0.0.9").unwrap();
        assert_eq!((long.network.as_str(), long.aliases.len()), ("net", 2));
        assert!(attachment_of("alias=a").is_err() && attachment_of("name=n,x=y").is_err());
    }
}
