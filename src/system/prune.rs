//! Removing what nobody uses.

use std::collections::BTreeMap;

use crate::container::filter::Filter;
use crate::container::lifecycle::{self, LifecycleError};
use crate::network::record::Network;
use crate::store::{RemovedNetwork, RemovedVolume, Store, StoreError, VolumeRecord};
use crate::time::parse_time;

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids or names.
    pub removed: Vec<String>,
    /// Bytes that this freed on the disk.
    pub freed: u64,
}

/// Removes containers that do not run.
pub fn containers(store: &Store, filter: &Filter) -> Result<Pruned, LifecycleError> {
    let mut pruned = Pruned::default();
    for container in store.containers()? {
        if container.state.status.is_live() || !filter.matches(&container) {
            continue;
        }
        let size = store.container_size(&container)?;
        match lifecycle::remove(store, &container, false, false) {
            Ok(()) => {
                pruned.removed.push(container.id);
                pruned.freed += size;
            }
            // Somebody started it or reads its files: it is not unused.
            Err(LifecycleError::Running(_) | LifecycleError::Stuck(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pruned)
}

/// Labels that must be there, and labels that must not.
#[derive(Debug, Clone, Default)]
struct Labels {
    wanted: Vec<String>,
    unwanted: Vec<String>,
}

impl Labels {
    /// Takes a filter in, if it is one of labels.
    fn take(&mut self, key: &str, label: &str) -> bool {
        match key {
            "label" => self.wanted.push(label.to_owned()),
            "label!" => self.unwanted.push(label.to_owned()),
            _ => return false,
        }
        true
    }

    fn match_those(&self, own: &BTreeMap<String, String>) -> bool {
        let has = |label: &String| match label.split_once('=') {
            Some((name, value)) => own.get(name).is_some_and(|own| own == value),
            None => own.contains_key(label),
        };
        self.wanted.iter().all(has) && !self.unwanted.iter().any(has)
    }
}

/// Which volumes a prune may remove.
#[derive(Debug, Clone, Default)]
pub struct VolumeFilter {
    labels: Labels,
    all: bool,
}

/// A filter that the command does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter {filter:?}, use label=NAME[=VALUE], label!=NAME[=VALUE] or {other}")]
pub struct InvalidFilter {
    filter: String,
    other: &'static str,
}

impl VolumeFilter {
    /// Reads filters; with `all`, volumes that have a name of the user's are meant too.
    pub fn parse(filters: &[String], all: bool) -> Result<Self, InvalidFilter> {
        let mut parsed = Self {
            all,
            ..Self::default()
        };
        for filter in filters {
            match filter.split_once('=') {
                Some((key, label)) if parsed.labels.take(key, label) => {}
                Some(("all", "true" | "1")) => parsed.all = true,
                Some(("all", "false" | "0")) => {}
                _ => {
                    return Err(InvalidFilter {
                        filter: filter.clone(),
                        other: "all=true",
                    });
                }
            }
        }
        Ok(parsed)
    }

    fn matches(&self, volume: &VolumeRecord) -> bool {
        (self.all || volume.anonymous) && self.labels.match_those(&volume.labels)
    }
}

/// Which networks a prune may remove.
#[derive(Debug, Clone, Default)]
pub struct NetworkFilter {
    labels: Labels,
    /// Nanoseconds since the epoch.
    until: Option<i64>,
}

impl NetworkFilter {
    /// Reads filters.
    pub fn parse(filters: &[String]) -> Result<Self, InvalidFilter> {
        let mut parsed = Self::default();
        for filter in filters {
            let known = match filter.split_once('=') {
                Some(("until", time)) => {
                    parsed.until = parse_time(time).ok();
                    parsed.until.is_some()
                }
                Some((key, label)) => parsed.labels.take(key, label),
                None => false,
            };
            if !known {
                return Err(InvalidFilter {
                    filter: filter.clone(),
                    other: "until=TIME",
                });
            }
        }
        Ok(parsed)
    }

    fn matches(&self, network: &Network) -> bool {
        self.labels.match_those(&network.config.labels)
            && self.until.is_none_or(|limit| network.created < limit)
    }
}

/// Removes volumes that no container has.
pub fn volumes(store: &Store, filter: &VolumeFilter) -> Result<Pruned, StoreError> {
    let mut pruned = Pruned::default();
    for volume in store.volumes()? {
        if filter.matches(&volume)
            && let RemovedVolume::Gone(size) = store.remove_volume(&volume.name)?
        {
            pruned.removed.push(volume.name);
            pruned.freed += size;
        }
    }
    Ok(pruned)
}

/// Removes networks that users made and no container is in.
pub fn networks(store: &Store, filter: &NetworkFilter) -> Result<Pruned, StoreError> {
    let mut pruned = Pruned::default();
    for network in store.networks()? {
        let meant = !network.is_default() && filter.matches(&network);
        if meant && store.remove_network(&network.id)? == RemovedNetwork::Gone {
            pruned.removed.push(network.name);
        }
    }
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_chosen_by_label_and_name() {
        let volume = |anonymous, label: &str| VolumeRecord {
            name: "x".into(),
            created: 0,
            anonymous,
            labels: [(label.to_owned(), "1".to_owned())].into(),
            options: BTreeMap::new(),
        };
        let filter = |texts: &[&str], all| {
            let texts: Vec<String> = texts.iter().map(|&t| t.to_owned()).collect();
            VolumeFilter::parse(&texts, all)
        };
        let plain = filter(&[], false).unwrap();
        assert!(plain.matches(&volume(true, "a")) && !plain.matches(&volume(false, "a")));
        assert!(
            filter(&["all=true"], false)
                .unwrap()
                .matches(&volume(false, "a"))
        );
        let labelled = filter(&["label=a=1", "label!=b"], true).unwrap();
        assert!(labelled.matches(&volume(false, "a")));
        assert!(!labelled.matches(&volume(false, "b")));
        assert!(filter(&["name=x"], false).is_err());
    }

    #[test]
    fn networks_are_chosen_by_label_and_age() {
        let filter = |text: &str| NetworkFilter::parse(&[text.to_owned()]);
        let config = r#"{"subnet":"10.1.0.0/24","gateway":"10.1.0.1","labels":{"a":"1"}}"#;
        let network = Network {
            id: String::new(),
            name: "x".into(),
            created: 5_000_000_000,
            config: serde_json::from_str(config).unwrap(),
        };
        for (text, meant) in [
            ("label=a", true),
            ("label=a=2", false),
            ("label!=a", false),
            ("until=6", true),
            ("until=4", false),
        ] {
            assert_eq!(filter(text).unwrap().matches(&network), meant, "{text}");
        }
        assert!(filter("until=soon").is_err() && filter("all=true").is_err());
    }
}
