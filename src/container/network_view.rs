//! Networks in docker's JSON shape, with the containers in them.

use std::net::IpAddr;

use anyhow::bail;
use serde_json::{Map, Value, json};

use crate::network::record::Network;
use crate::store::{Found, MemberRecord, RemovedNetwork, Store, StoreError};
use crate::time::rfc3339;

/// The networks that `KEY=VALUE` filters let through.
pub fn list(store: &Store, filters: &[String]) -> anyhow::Result<Vec<Network>> {
    let mut networks = store.networks()?;
    for filter in filters {
        let Some((key, value)) = filter.split_once('=') else {
            bail!("invalid filter {filter:?}, use KEY=VALUE");
        };
        match (key, value) {
            ("driver", driver) => networks.retain(|_| driver == "bridge"),
            ("scope", scope) => networks.retain(|_| scope == "local"),
            ("id", id) => networks.retain(|network| network.id.starts_with(id)),
            ("name", text) => networks.retain(|network| network.name.contains(text)),
            ("type", "builtin") => networks.retain(Network::is_default),
            ("type", "custom") => networks.retain(|network| !network.is_default()),
            ("label", label) => networks.retain(|network| {
                let labels = &network.config.labels;
                match label.split_once('=') {
                    Some((name, value)) => labels.get(name).is_some_and(|own| own == value),
                    None => labels.contains_key(label),
                }
            }),
            ("dangling", "true" | "1" | "false" | "0") => {
                let wanted = matches!(value, "true" | "1");
                let mut kept = Vec::new();
                for network in networks {
                    let members = store.network_members(&network.id)?;
                    if (members.is_empty() && !network.is_default()) == wanted {
                        kept.push(network);
                    }
                }
                networks = kept;
            }
            _ => bail!(
                "invalid filter {filter:?}, use dangling, driver, id, label, name, scope or type"
            ),
        }
    }
    Ok(networks)
}

/// Why a network was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It is not there.
    #[error("{0}")]
    Missing(String),
    /// It is always there.
    #[error("{0} is a pre-defined network and cannot be removed")]
    Predefined(String),
    /// Containers are in it.
    #[error("error while removing network: network {name} has containers: {}", members.join(", "))]
    InUse {
        /// The network.
        name: String,
        /// Who is in it.
        members: Vec<String>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Removes a network that nobody is in.
pub fn remove(store: &Store, name: &str) -> Result<(), RemoveError> {
    let network = match store.find_network(name)? {
        Ok(network) => network,
        Err(error) => return Err(RemoveError::Missing(error.to_string())),
    };
    if network.is_default() {
        return Err(RemoveError::Predefined(name.to_owned()));
    }
    match store.remove_network(&network.id)? {
        RemovedNetwork::Gone => Ok(()),
        RemovedNetwork::Missing => {
            let sentence = format!("network {name} not found");
            Err(RemoveError::Missing(sentence))
        }
        RemovedNetwork::InUse(members) => Err(RemoveError::InUse {
            name: network.name,
            members,
        }),
    }
}

/// Everything about a network.
pub fn value(store: &Store, network: &Network) -> Result<Value, StoreError> {
    let config = &network.config;
    let mut ipam = vec![json!({
        "Subnet": config.subnet.to_string(),
        "Gateway": config.gateway.to_string(),
    })];
    if let (Some(range), Some(Value::Object(first))) = (config.range, ipam.first_mut()) {
        first.insert("IPRange".to_owned(), range.to_string().into());
    }
    let auxiliary = |fits: fn(&IpAddr) -> bool| -> Map<String, Value> {
        let all = config.auxiliary.iter().filter(|(_, ip)| fits(ip));
        all.map(|(name, ip)| (name.clone(), ip.to_string().into()))
            .collect()
    };
    let fourth = auxiliary(IpAddr::is_ipv4);
    if let (false, Some(Value::Object(first))) = (fourth.is_empty(), ipam.first_mut()) {
        first.insert("AuxiliaryAddresses".to_owned(), fourth.into());
    }
    if let Some(subnet) = config.subnet6 {
        let gateway = config.gateway6.map(|address| address.to_string());
        let mut sixth = json!({"Subnet": subnet.to_string(), "Gateway": gateway});
        let auxiliary = auxiliary(IpAddr::is_ipv6);
        if !auxiliary.is_empty() {
            sixth["AuxiliaryAddresses"] = auxiliary.into();
        }
        ipam.push(sixth);
    }
    let mut containers = Map::new();
    for member in store.network_members(&network.id)? {
        // As docker: only those that run.
        if let Found::One(container) = store.find_container(&member.endpoint.container)?
            && container.state.status.is_live()
        {
            let id = member.endpoint.container.clone();
            containers.insert(id, of_member(network, &member));
        }
    }
    Ok(json!({
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": true,
        "EnableIPv6": config.subnet6.is_some(),
        "IPAM": {"Driver": "default", "Options": {}, "Config": ipam},
        "Internal": config.internal,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": containers,
        "Options": config.options,
        "Labels": config.labels,
    }))
}

fn of_member(network: &Network, member: &MemberRecord) -> Value {
    let endpoint = &member.endpoint;
    let config = &network.config;
    let ipv6 = endpoint.ipv6.zip(config.subnet6);
    json!({
        "Name": member.name,
        "EndpointID": endpoint.container,
        "MacAddress": endpoint.mac_text(),
        "IPv4Address": format!("{}/{}", endpoint.ipv4, config.subnet.prefix_len()),
        "IPv6Address": ipv6
            .map(|(address, subnet)| format!("{address}/{}", subnet.prefix_len()))
            .unwrap_or_default(),
    })
}
