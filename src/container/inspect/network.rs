//! A container's networks and ports in docker's JSON shape.

use serde_json::{Map, Value, json};

use crate::container::record::Container;
use crate::network::ports::Bound;
use crate::network::record::{Endpoint, Network};
use crate::store::{Store, StoreError};

/// `NetworkSettings`.
pub fn settings(store: &Store, container: &Container) -> Result<Value, StoreError> {
    let live = container.state.status.is_live();
    let endpoints = store.endpoints(&container.id)?;
    let networks: Map<String, Value> = endpoints
        .iter()
        .map(|(network, endpoint)| (network.name.clone(), one(container, network, endpoint)))
        .collect();
    let default = endpoints.iter().find(|(network, _)| network.is_default());
    let default = default.filter(|_| live);
    let address = default.map(|(_, endpoint)| endpoint.ipv4.to_string());
    Ok(json!({
        "SandboxID": if live { container.id.as_str() } else { "" },
        "Ports": if live { ports(container) } else { json!({}) },
        "Gateway": default.map(|(network, _)| network.config.gateway.to_string()).unwrap_or_default(),
        "IPAddress": address.unwrap_or_default(),
        "IPPrefixLen": default.map_or(0, |(network, _)| network.config.subnet.prefix_len()),
        "MacAddress": default.map(|(_, endpoint)| endpoint.mac_text()).unwrap_or_default(),
        "Networks": networks,
    }))
}

fn one(container: &Container, network: &Network, endpoint: &Endpoint) -> Value {
    let config = &network.config;
    let live = container.state.status.is_live();
    let shown = |text: String| if live { text } else { String::new() };
    let asked = container
        .config
        .network
        .attachments
        .iter()
        .find(|asked| asked.network == network.name && asked.ipv4.is_some());
    let mut names = vec![container.name.clone()];
    names.extend(endpoint.aliases.iter().cloned());
    names.push(container.short_id().to_owned());
    json!({
        "IPAMConfig": asked.map(|asked| json!({"IPv4Address": asked.ipv4})),
        "Links": links(container),
        "Aliases": endpoint.aliases,
        "MacAddress": endpoint.mac_text(),
        "NetworkID": network.id,
        "EndpointID": if live { container.id.as_str() } else { "" },
        "Gateway": shown(config.gateway.to_string()),
        "IPAddress": shown(endpoint.ipv4.to_string()),
        "IPPrefixLen": if live { config.subnet.prefix_len() } else { 0 },
        "IPv6Gateway": shown(config.gateway6.map(|a| a.to_string()).unwrap_or_default()),
        "GlobalIPv6Address": shown(endpoint.ipv6.map(|a| a.to_string()).unwrap_or_default()),
        "GlobalIPv6PrefixLen": if live { config.subnet6.map_or(0, |net| net.prefix_len()) } else { 0 },
        "DNSNames": if network.is_default() { Vec::new() } else { names },
    })
}

/// Every exposed port, with where the host offers it.
fn ports(container: &Container) -> Value {
    let mut all = Map::new();
    for port in &container.config.exposed_ports {
        all.insert(port.clone(), Value::Null);
    }
    for bound in &container.state.ports {
        let key = format!("{}/{}", bound.port, bound.protocol);
        let mut list = match all.remove(&key) {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        };
        list.push(binding(bound));
        all.insert(key, Value::Array(list));
    }
    Value::Object(all)
}

fn binding(bound: &Bound) -> Value {
    json!({"HostIp": bound.host_ip.to_string(), "HostPort": bound.host_port.to_string()})
}

/// `-p`, as it was asked for.
pub fn port_bindings(container: &Container) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for publish in &container.config.network.publish {
        let port = match publish.host_ports {
            None => String::new(),
            Some((low, high)) if low == high => low.to_string(),
            Some((low, high)) => format!("{low}-{high}"),
        };
        let host = publish.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let entry = json!({"HostIp": host, "HostPort": port});
        let key = format!("{}/{}", publish.port, publish.protocol);
        match all.get_mut(&key) {
            Some(Value::Array(list)) => list.push(entry),
            _ => {
                all.insert(key, json!([entry]));
            }
        }
    }
    Value::Object(all)
}

/// `--link`, null without any.
pub fn links(container: &Container) -> Value {
    let links = &container.config.network.links;
    if links.is_empty() {
        return Value::Null;
    }
    let shown = links
        .iter()
        .map(|(target, alias)| format!("/{target}:/{}/{alias}", container.name));
    shown.collect::<Vec<_>>().into()
}
