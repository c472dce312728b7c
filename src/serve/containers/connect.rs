//! The networks and ports in docker's JSON.

use anyhow::{Context as _, bail};

pub use super::asked::Endpoint;
use super::asked::{HostConfig, NetworkingConfig};
use crate::container::options;
use crate::network::ports::{self, Publish};
use crate::network::record::{Asked, Attachment, DEFAULT};

/// What a new container is asked to be on networks.
pub fn asked(
    host: &HostConfig,
    networks: NetworkingConfig,
    mac: Option<&str>,
) -> anyhow::Result<Asked> {
    let mode = host.network_mode.as_deref().unwrap_or_default();
    let mode = if mode.is_empty() || mode == "default" {
        DEFAULT
    } else {
        mode
    };
    options::check_network_mode(mode)?;
    let mut links: Vec<(String, String)> = host.links.iter().flatten().map(|l| link(l)).collect();
    let mut attachments = Vec::new();
    for (name, endpoint) in networks.endpoints_config.unwrap_or_default() {
        let name = if name == "default" {
            DEFAULT.to_owned()
        } else {
            name
        };
        let endpoint = endpoint.unwrap_or_default();
        links.extend(endpoint.links.iter().flatten().map(|l| link(l)));
        attachments.push(attachment(name, endpoint)?);
    }
    if mode == "none" {
        attachments.clear();
    } else if let Some(first) = attachments.iter().position(|a| a.network == mode) {
        attachments.swap(0, first);
    } else {
        let first = attachment(mode.to_owned(), Endpoint::default())?;
        attachments.insert(0, first);
    }
    if let (Some(first), Some(mac)) = (attachments.first_mut(), mac.filter(|mac| !mac.is_empty())) {
        first.mac = Some(options::parse_mac(mac)?);
    }
    if attachments
        .iter()
        .any(|a| a.network == DEFAULT && !a.aliases.is_empty())
    {
        bail!("network-scoped aliases are only supported for user-defined networks");
    }
    let publish = match mode {
        "none" => Vec::new(),
        _ => publish(host)?,
    };
    let publish_all = host.publish_all_ports.unwrap_or(false) && mode != "none";
    Ok(Asked {
        mode: mode.to_owned(),
        explicit: mode != DEFAULT || !publish.is_empty() || publish_all || !links.is_empty(),
        attachments,
        publish,
        publish_all,
        links,
        dns_search: host.dns_search.clone().unwrap_or_default(),
        dns_options: host.dns_options.clone().unwrap_or_default(),
    })
}

/// One network's part.
pub fn attachment(network: String, endpoint: Endpoint) -> anyhow::Result<Attachment> {
    let addresses = endpoint.ipam_config.unwrap_or_default();
    let (ipv4, ipv6) = (
        addresses.ipv4.unwrap_or_default(),
        addresses.ipv6.unwrap_or_default(),
    );
    let wrong = |text: &str| format!("invalid IP address {text:?}");
    let mac = endpoint.mac_address.filter(|mac| !mac.is_empty());
    Ok(Attachment {
        network,
        aliases: endpoint.aliases.unwrap_or_default(),
        ipv4: match ipv4.as_str() {
            "" => None,
            text => Some(text.parse().with_context(|| wrong(text))?),
        },
        ipv6: match ipv6.as_str() {
            "" => None,
            text => Some(text.parse().with_context(|| wrong(text))?),
        },
        mac: mac.map(|mac| options::parse_mac(&mac)).transpose()?,
    })
}

/// `container:alias`, with the slashes that older clients have.
fn link(spec: &str) -> (String, String) {
    let (container, alias) = options::link(spec.trim_start_matches('/'));
    let alias = alias.rsplit('/').next().unwrap_or_default().to_owned();
    (container, alias)
}

fn publish(host: &HostConfig) -> anyhow::Result<Vec<Publish>> {
    let mut all = Vec::new();
    for (port, bindings) in host.port_bindings.iter().flatten() {
        for binding in bindings.iter().flatten() {
            let address = binding.host_ip.as_deref().unwrap_or_default();
            let address = match address {
                "" => String::new(),
                text if text.contains(':') => format!("[{text}]:"),
                text => format!("{text}:"),
            };
            let host_port = match binding.host_port.as_deref() {
                None | Some("" | "0") => "",
                Some(text) => text,
            };
            let spec = match (address.as_str(), host_port) {
                ("", "") => port.clone(),
                (address, host_port) => format!("{address}{host_port}:{port}"),
            };
            all.extend(ports::parse(&spec)?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_of(text: &str) -> anyhow::Result<Asked> {
        let whole: super::super::asked::Asked = serde_json::from_str(text)?;
        asked(
            &whole.host_config.unwrap_or_default(),
            whole.networking_config.unwrap_or_default(),
            whole.mac_address.as_deref(),
        )
    }

    #[test]
    fn networks_and_ports_are_dockers() {
        let plain = asked_of(r#"{"HostConfig":{"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":null}}}}"#).unwrap();
        assert_eq!(
            (plain.mode.as_str(), plain.attachments.len()),
            ("bridge", 1)
        );
        assert!(!plain.explicit);
        let compose = asked_of(r#"{"HostConfig":{"NetworkMode":"p_back","Links":["db:/web/store"],
            "PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"},{"HostIp":"::1","HostPort":""}],"53/udp":null}},
            "NetworkingConfig":{"EndpointsConfig":{"a":{"Aliases":["x"]},"p_back":{"IPAMConfig":{"IPv4Address":"10.1.2.3"}}}}}"#).unwrap();
        assert_eq!(compose.attachments[0].network, "p_back");
        assert_eq!(compose.attachments[0].ipv4.unwrap().to_string(), "10.1.2.3");
        assert_eq!(compose.attachments[1].aliases, ["x"]);
        assert_eq!(compose.links, [("db".into(), "store".into())]);
        assert_eq!(compose.publish.len(), 2);
        assert_eq!(compose.publish[0].host_ports, Some((8080, 8080)));
        assert!(
            asked_of(r#"{"HostConfig":{"NetworkMode":"none"}}"#)
                .unwrap()
                .attachments
                .is_empty()
        );
        for bad in [
            r#"{"HostConfig":{"NetworkMode":"host"}}"#,
            r#"{"HostConfig":{"NetworkMode":"container:x"}}"#,
            r#"{"HostConfig":{"PortBindings":{"80/sctp":[{"HostPort":"1"}]}}}"#,
            r#"{"NetworkingConfig":{"EndpointsConfig":{"a":{"IPAMConfig":{"IPv4Address":"x"}}}}}"#,
            r#"{"NetworkingConfig":{"EndpointsConfig":{"bridge":{"Aliases":["x"]}}}}"#,
        ] {
            assert!(asked_of(bad).is_err(), "{bad}");
        }
    }
}
