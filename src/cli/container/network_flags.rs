//! The options of `run` and `create` about networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::container::options;
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
                "default" => attachments.push(attachment(DEFAULT)),
                other => {
                    options::check_network_mode(other)?;
                    attachments.push(attachment_of(other)?);
                }
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
                    first.mac = Some(options::parse_mac(mac)?);
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
            links: self.link.iter().map(|spec| options::link(spec)).collect(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_option.clone(),
            attachments,
        })
    }

    /// `--add-host`.
    pub fn extra_hosts(&self) -> anyhow::Result<Vec<(String, String)>> {
        options::extra_hosts(&self.add_host)
    }

    /// `--dns`.
    pub fn dns(&self) -> Vec<String> {
        self.dns.iter().map(IpAddr::to_string).collect()
    }
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
            "mac-address" => whole.mac = Some(options::parse_mac(value)?),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let long = attachment_of("name=net,alias=a,alias=b,ip=10.0.0.9").unwrap();
        assert_eq!((long.network.as_str(), long.aliases.len()), ("net", 2));
        assert!(attachment_of("alias=a").is_err() && attachment_of("name=n,x=y").is_err());
    }
}
