//! The tables of networks and of who is in them, and where their holder is found.
//!
//! A container's addresses are chosen in the transaction that adds the container, so no two
//! ever get the same; the tables' constraints hold that as well.

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::containers::{json, parse};
use super::run_dir::{SocketPath, make_directory, open_lock};
use super::{Paths, Store, StoreError};
use crate::network::address::{self, Taken};
use crate::network::record::{Attachment, ConnectError, Endpoint, Network, NetworkConfig};

pub(super) const SCHEMA: &str = r#"
CREATE TABLE network (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    config TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE endpoint (
    container TEXT NOT NULL,
    network TEXT NOT NULL,
    place INTEGER NOT NULL,
    ipv4 TEXT NOT NULL,
    ipv6 TEXT,
    mac TEXT NOT NULL,
    aliases TEXT NOT NULL,
    PRIMARY KEY (container, network),
    UNIQUE (network, ipv4),
    UNIQUE (network, ipv6),
    UNIQUE (network, mac)
) WITHOUT ROWID;
INSERT INTO network (id, name, created, config)
    VALUES (lower(hex(randomblob(32))), 'bridge',
        CAST(unixepoch('subsec') * 1000000000 AS INTEGER),
        '{"subnet":"172.17.0.0/16","gateway":"172.17.0.1"}');
"#;

/// A container as the members of a network are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    /// The container's name.
    pub name: String,
    /// Its connection.
    pub endpoint: Endpoint,
}

/// What came of removing a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedNetwork {
    /// It is gone.
    Gone,
    /// It was not there.
    Missing,
    /// These containers are in it, by name.
    InUse(Vec<String>),
}

impl Paths {
    /// Where the holder's lock and socket are.
    pub fn holder_dir(&self) -> PathBuf {
        self.run.join("network")
    }

    /// Where the holder listens, or would.
    pub fn holder_socket(&self) -> Result<SocketPath, StoreError> {
        SocketPath::in_created(&self.holder_dir(), "holder")
    }

    /// From now on nobody finds the holder.
    pub fn remove_holder_socket(&self) {
        // Nothing is wrong when it is gone already.
        let _ = fs::remove_file(self.holder_dir().join("holder"));
    }

    /// The file whose lock says that there is a holder.
    pub fn holder_lock(&self) -> Result<File, StoreError> {
        let directory = self.holder_dir();
        make_directory(&directory)?;
        let path = directory.join("lock");
        open_lock(&path).map_err(|e| StoreError::io("open the lock", &path, e))
    }

    /// A file for the holder's messages.
    pub fn holder_log(&self) -> Result<File, StoreError> {
        let path = self.holder_dir().join("holder.log");
        File::create(&path).map_err(|e| StoreError::io("create", &path, e))
    }
}

impl Store {
    /// All networks, by name.
    pub fn networks(&self) -> Result<Vec<Network>, StoreError> {
        self.read(all_networks)
    }

    /// The network that `text` names.
    pub fn find_network(&self, text: &str) -> Result<Result<Network, ConnectError>, StoreError> {
        self.read(|db| find(db, text))
    }

    /// Adds a network that `make` puts together, knowing the others.
    pub fn create_network<E>(
        &self,
        make: impl FnOnce(&[Network]) -> Result<Network, E>,
    ) -> Result<Result<Network, E>, StoreError> {
        self.write(|tx| {
            let network = match make(&all_networks(tx)?) {
                Ok(network) => network,
                Err(error) => return Ok(Err(error)),
            };
            tx.execute(
                "INSERT INTO network (id, name, created, config) VALUES (?1, ?2, ?3, ?4)",
                params![
                    network.id,
                    network.name,
                    network.created,
                    json(&network.config)?
                ],
            )?;
            Ok(Ok(network))
        })
    }

    /// Removes a network that nobody is in.
    pub fn remove_network(&self, id: &str) -> Result<RemovedNetwork, StoreError> {
        self.write(|tx| {
            let members = members(tx, id)?;
            if !members.is_empty() {
                let names = members.into_iter().map(|member| member.name).collect();
                return Ok(RemovedNetwork::InUse(names));
            }
            Ok(
                match tx.execute("DELETE FROM network WHERE id = ?1", [id])? {
                    0 => RemovedNetwork::Missing,
                    _ => RemovedNetwork::Gone,
                },
            )
        })
    }

    /// Who is in a network.
    pub fn network_members(&self, id: &str) -> Result<Vec<MemberRecord>, StoreError> {
        self.read(|db| members(db, id))
    }

    /// A container's connections with their networks, in order.
    pub fn endpoints(&self, container: &str) -> Result<Vec<(Network, Endpoint)>, StoreError> {
        self.read(|db| {
            db.prepare(
                "SELECT n.id, n.name, n.created, n.config,
                        e.container, e.network, e.ipv4, e.ipv6, e.mac, e.aliases
                 FROM endpoint e JOIN network n ON n.id = e.network
                 WHERE e.container = ?1 ORDER BY e.place",
            )?
            .query_map([container], |row| {
                Ok((network_row(row)?, endpoint_row(row, 4)?))
            })?
            .collect()
        })
    }

    /// Connects a container to one more network.
    pub fn connect_container(
        &self,
        container: &str,
        name: &str,
        asked: &Attachment,
    ) -> Result<Result<Endpoint, ConnectError>, StoreError> {
        self.write(|tx| {
            let planned = match plan(tx, container, name, asked)? {
                Ok(planned) => planned,
                Err(error) => return Ok(Err(error)),
            };
            insert(tx, &planned)?;
            Ok(Ok(planned))
        })
    }

    /// Takes whoever has this id out of all networks.
    pub fn disconnect_all(&self, container: &str) -> Result<(), StoreError> {
        self.write(|tx| delete_endpoints(tx, container))
    }

    /// Takes a container out of a network; false when it is not in it.
    pub fn disconnect_container(&self, container: &str, network: &str) -> Result<bool, StoreError> {
        let gone = self.write(|tx| {
            tx.execute(
                "DELETE FROM endpoint WHERE container = ?1 AND network = ?2",
                [container, network],
            )
        })?;
        Ok(gone > 0)
    }
}

/// The connections of a container that is about to be added.
pub(super) fn plan_endpoints(
    tx: &Transaction<'_>,
    container: &str,
    name: &str,
    asked: &[Attachment],
) -> rusqlite::Result<Result<Vec<Endpoint>, ConnectError>> {
    let mut planned: Vec<Endpoint> = Vec::with_capacity(asked.len());
    for attachment in asked {
        match plan(tx, container, name, attachment)? {
            Ok(endpoint)
                if planned
                    .iter()
                    .any(|other| other.network == endpoint.network) =>
            {
                return Ok(Err(ConnectError::Connected {
                    container: name.to_owned(),
                    network: attachment.network.clone(),
                }));
            }
            Ok(endpoint) => planned.push(endpoint),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(planned))
}

/// Adds connections that [`plan_endpoints`] chose in the same transaction.
pub(super) fn insert_endpoints(tx: &Transaction<'_>, planned: &[Endpoint]) -> rusqlite::Result<()> {
    planned.iter().try_for_each(|endpoint| insert(tx, endpoint))
}

/// Forgets a container's connections.
pub(super) fn delete_endpoints(tx: &Transaction<'_>, container: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM endpoint WHERE container = ?1", [container])?;
    Ok(())
}

fn plan(
    tx: &Transaction<'_>,
    container: &str,
    name: &str,
    asked: &Attachment,
) -> rusqlite::Result<Result<Endpoint, ConnectError>> {
    let network = match find(tx, &asked.network)? {
        Ok(network) => network,
        Err(error) => return Ok(Err(error)),
    };
    let members = members(tx, &network.id)?;
    if members.iter().any(|m| m.endpoint.container == container) {
        return Ok(Err(ConnectError::Connected {
            container: name.to_owned(),
            network: network.name,
        }));
    }
    let taken = Taken {
        ipv4: members.iter().map(|m| m.endpoint.ipv4).collect(),
        ipv6: members.iter().filter_map(|m| m.endpoint.ipv6).collect(),
    };
    let macs: HashSet<[u8; 6]> = members.iter().map(|m| m.endpoint.mac).collect();
    Ok(address::choose(&network, asked, &taken).and_then(|chosen| {
        let endpoint = Endpoint {
            container: container.to_owned(),
            network: network.id,
            ipv4: chosen.ipv4,
            ipv6: chosen.ipv6,
            mac: chosen.mac,
            aliases: asked.aliases.clone(),
        };
        if macs.contains(&chosen.mac) {
            return Err(ConnectError::AddressTaken {
                address: endpoint.mac_text(),
                network: network.name,
            });
        }
        Ok(endpoint)
    }))
}

fn insert(tx: &Transaction<'_>, endpoint: &Endpoint) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO endpoint (container, network, place, ipv4, ipv6, mac, aliases)
         VALUES (?1, ?2, (SELECT coalesce(max(place), 0) + 1 FROM endpoint WHERE container = ?1),
                 ?3, ?4, ?5, ?6)",
        params![
            endpoint.container,
            endpoint.network,
            endpoint.ipv4.to_string(),
            endpoint.ipv6.map(|address| address.to_string()),
            json(&endpoint.mac)?,
            json(&endpoint.aliases)?,
        ],
    )?;
    Ok(())
}

fn all_networks(db: &Connection) -> rusqlite::Result<Vec<Network>> {
    db.prepare("SELECT id, name, created, config FROM network ORDER BY name")?
        .query_map([], network_row)?
        .collect()
}

fn find(db: &Connection, text: &str) -> rusqlite::Result<Result<Network, ConnectError>> {
    let named = db
        .query_row(
            "SELECT id, name, created, config FROM network WHERE name = ?1 OR id = ?1
             ORDER BY name = ?1 DESC LIMIT 1",
            [text],
            network_row,
        )
        .optional()?;
    if let Some(network) = named {
        return Ok(Ok(network));
    }
    let missing = || ConnectError::NoNetwork(text.to_owned());
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Err(missing()));
    }
    // 'g' follows 'f', the last digit.
    let mut like = db
        .prepare(
            "SELECT id, name, created, config FROM network WHERE id >= ?1 AND id < ?2 LIMIT 2",
        )?
        .query_map([text.to_ascii_lowercase(), format!("{text}g")], network_row)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(match (like.pop(), like.pop()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(ConnectError::Ambiguous(text.to_owned())),
        (None, _) => Err(missing()),
    })
}

fn members(db: &Connection, network: &str) -> rusqlite::Result<Vec<MemberRecord>> {
    db.prepare_cached(
        "SELECT coalesce(c.name, ''), e.container, e.network, e.ipv4, e.ipv6, e.mac, e.aliases
         FROM endpoint e LEFT JOIN container c ON c.id = e.container
         WHERE e.network = ?1 ORDER BY e.container",
    )?
    .query_map([network], |row| {
        Ok(MemberRecord {
            name: row.get(0)?,
            endpoint: endpoint_row(row, 1)?,
        })
    })?
    .collect()
}

fn network_row(row: &Row<'_>) -> rusqlite::Result<Network> {
    Ok(Network {
        id: row.get(0)?,
        name: row.get(1)?,
        created: row.get(2)?,
        config: parse::<NetworkConfig>(row, 3)?,
    })
}

fn endpoint_row(row: &Row<'_>, first: usize) -> rusqlite::Result<Endpoint> {
    Ok(Endpoint {
        container: row.get(first)?,
        network: row.get(first + 1)?,
        ipv4: text::<Ipv4Addr>(row, first + 2)?,
        ipv6: match row.get_ref(first + 3)? {
            rusqlite::types::ValueRef::Null => None,
            _ => Some(text::<Ipv6Addr>(row, first + 3)?),
        },
        mac: parse(row, first + 4)?,
        aliases: parse(row, first + 5)?,
    })
}

fn text<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
    })
}
