//! Published ports, as `-p` has them.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One port of a container and where the host offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The host's address; all of them when absent.
    pub host_ip: Option<IpAddr>,
    /// The host's port, or a range to take a free one of; any free port when absent.
    pub host_ports: Option<(u16, u16)>,
    /// The container's port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A port of the host that leads to one of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The host's address.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// What is wrong with a `-p` or an `--expose`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// No port, or not one number.
    #[error(
        "invalid port {0:?}, use [ADDRESS:][HOST_PORT:]PORT[/tcp|/udp] with ports of 1 to 65535"
    )]
    Form(String),
    /// The address is none.
    #[error("invalid IP address {0:?} in a published port, use an address of this host")]
    Address(String),
    /// Something else than TCP or UDP.
    #[error("protocol {0:?} cannot be published, use tcp or udp")]
    Protocol(String),
    /// As many ports here as there, or one there.
    #[error("invalid ranges in {0:?}: give as many ports of the host as of the container")]
    Ranges(String),
}

/// Reads one `-p`.
pub fn parse(spec: &str) -> Result<Vec<Publish>, PortError> {
    let form = || PortError::Form(spec.to_owned());
    let (rest, protocol) = split_protocol(spec)?;
    let (address, ports) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once("]:").ok_or_else(form)?;
            (address, rest)
        }
        None => match rest.match_indices(':').count() {
            0 | 1 => ("", rest),
            _ => {
                let second = rest.rmatch_indices(':').nth(1);
                second.map_or(("", rest), |(at, _)| (&rest[..at], &rest[at + 1..]))
            }
        },
    };
    let host_ip = match address {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| PortError::Address(text.to_owned()))?,
        ),
    };
    let (host, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (first, last) = range(container).ok_or_else(form)?;
    let host = match host {
        "" => None,
        text => Some(range(text).ok_or_else(form)?),
    };
    let count = last - first;
    let one = |step: u16| {
        let host_ports = match host {
            None => None,
            Some((low, high)) if count > 0 && high - low == count => Some((low + step, low + step)),
            Some(any) if count == 0 => Some(any),
            Some(_) => return Err(PortError::Ranges(spec.to_owned())),
        };
        Ok(Publish {
            host_ip,
            host_ports,
            port: first + step,
            protocol,
        })
    };
    (0..=count).map(one).collect()
}

/// Reads one `--expose` or one port of an image: `80`, `80/udp`, `80-90`.
pub fn parse_exposed(spec: &str) -> Result<Vec<(u16, Protocol)>, PortError> {
    let (ports, protocol) = split_protocol(spec)?;
    let (first, last) = range(ports).ok_or_else(|| PortError::Form(spec.to_owned()))?;
    Ok((first..=last).map(|port| (port, protocol)).collect())
}

fn split_protocol(spec: &str) -> Result<(&str, Protocol), PortError> {
    match spec.rsplit_once('/') {
        None => Ok((spec, Protocol::Tcp)),
        Some((rest, "tcp" | "TCP")) => Ok((rest, Protocol::Tcp)),
        Some((rest, "udp" | "UDP")) => Ok((rest, Protocol::Udp)),
        Some((_, other)) => Err(PortError::Protocol(other.to_owned())),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Some(port),
        _ => None,
    };
    match text.split_once('-') {
        None => port(text).map(|port| (port, port)),
        Some((first, last)) => {
            let range = (port(first)?, port(last)?);
            (range.0 <= range.1).then_some(range)
        }
    }
}

/// The PORTS column: what is bound, then what is only exposed.
pub fn describe(bound: &[Bound], exposed: &[String]) -> String {
    let mut bound = bound.to_vec();
    bound.sort_by_key(|b| {
        (
            b.protocol,
            b.port,
            b.host_ip.is_ipv6(),
            b.host_ip,
            b.host_port,
        )
    });
    let mut parts: Vec<String> = Vec::new();
    let mut taken = vec![false; bound.len()];
    for (at, first) in bound.iter().enumerate() {
        if taken[at] {
            continue;
        }
        // Ports that follow each other on both sides are shown as a range, as docker does.
        let mut last = first;
        for (other_at, other) in bound.iter().enumerate().skip(at + 1) {
            let follows = (other.protocol, other.host_ip) == (last.protocol, last.host_ip)
                && last.port.checked_add(1) == Some(other.port)
                && last.host_port.checked_add(1) == Some(other.host_port);
            if follows && !taken[other_at] {
                taken[other_at] = true;
                last = other;
            }
        }
        let span = |from: u16, to: u16| match from == to {
            true => from.to_string(),
            false => format!("{from}-{to}"),
        };
        parts.push(format!(
            "{}:{}->{}/{}",
            shown(first.host_ip),
            span(first.host_port, last.host_port),
            span(first.port, last.port),
            first.protocol,
        ));
    }
    for port in exposed {
        let known = |b: &Bound| format!("{}/{}", b.port, b.protocol) == *port;
        if !bound.iter().any(known) {
            parts.push(port.clone());
        }
    }
    parts.join(", ")
}

/// An address as it stands before a port.
pub fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(spec: &str) -> Publish {
        let mut all = parse(spec).unwrap();
        assert_eq!(all.len(), 1, "{spec}");
        all.remove(0)
    }

    #[test]
    fn specifications_are_dockers() {
        let plain = one("8080:80");
        assert_eq!(plain.host_ports, Some((8080, 8080)));
        assert_eq!(
            (plain.host_ip, plain.port, plain.protocol),
            (None, 80, Protocol::Tcp)
        );
        assert_eq!(one("80").host_ports, None);
        assert_eq!(one("127.0.0.1::80").host_ports, None);
        assert_eq!(one("127.0.0.1::80").host_ip, Some([127, 0, 0, 1].into()));
        assert_eq!(one("53:53/udp").protocol, Protocol::Udp);
        assert_eq!(one("[::1]:80:80").host_ip, Some("::1".parse().unwrap()));
        assert_eq!(one("::1:80:80").host_ip, Some("::1".parse().unwrap()));
        assert_eq!(one("8000-8010:80").host_ports, Some((8000, 8010)));
        let range = parse("8000-8002:80-82").unwrap();
        assert_eq!(range.len(), 3);
        assert_eq!(
            (range[2].host_ports, range[2].port),
            (Some((8002, 8002)), 82)
        );
        assert_eq!(parse("80-82").unwrap().len(), 3);
        assert_eq!(parse_exposed("80-81/udp").unwrap().len(), 2);
        for bad in [
            "",
            "x",
            "80:",
            "0",
            "65536",
            "80-79",
            "+80",
            "1.2.3:80:80",
            "80/sctp",
            "1-2:5-9",
            "[::1]80",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_column_shows_ranges() {
        let bound = |host: &str, host_port, port| Bound {
            host_ip: host.parse().unwrap(),
            host_port,
            port,
            protocol: Protocol::Tcp,
        };
        let many = [
            bound("0.0.0.0", 8000, 80),
            bound("::", 8000, 80),
            bound("0.0.0.0", 8001, 81),
            bound("::", 8001, 81),
            bound("127.0.0.1", 5000, 90),
        ];
        assert_eq!(
            describe(&many, &["80/tcp".into(), "6379/tcp".into()]),
            "0.0.0.0:8000-8001->80-81/tcp, [::]:8000-8001->80-81/tcp, 127.0.0.1:5000->90/tcp, 6379/tcp"
        );
        assert_eq!(describe(&[], &[]), "");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(spec in "[0-9:./\\[\\]a-f-]{0,30}") {
            if let Ok(all) = parse(&spec) {
                prop_assert!(!all.is_empty());
                prop_assert!(all.iter().all(|p| p.port > 0));
            }
        }
    }
}
