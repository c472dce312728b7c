//! Removing what nobody uses.

use crate::container::filter::Filter;
use crate::container::lifecycle::{self, LifecycleError};
use crate::store::{RemovedNetwork, RemovedVolume, Store, StoreError, VolumeRecord};

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
        let size = store.container_size(&container.id)?;
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

/// Which volumes a prune may remove: those with all labels of one list and none of the other.
#[derive(Debug, Clone, Default)]
pub struct VolumeFilter {
    labels: Vec<String>,
    not_labels: Vec<String>,
    all: bool,
}

/// A filter that `volume prune` does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter {0:?}, use label=NAME[=VALUE], label!=NAME[=VALUE] or all=true")]
pub struct InvalidVolumeFilter(String);

impl VolumeFilter {
    /// Reads filters; with `all`, volumes that have a name of the user's are meant too.
    pub fn parse(filters: &[String], all: bool) -> Result<Self, InvalidVolumeFilter> {
        let mut parsed = Self {
            all,
            ..Self::default()
        };
        for filter in filters {
            match filter.split_once('=') {
                Some(("label", label)) => parsed.labels.push(label.to_owned()),
                Some(("label!", label)) => parsed.not_labels.push(label.to_owned()),
                Some(("all", "true" | "1")) => parsed.all = true,
                Some(("all", "false" | "0")) => {}
                _ => return Err(InvalidVolumeFilter(filter.clone())),
            }
        }
        Ok(parsed)
    }

    fn matches(&self, volume: &VolumeRecord) -> bool {
        let has = |label: &String| match label.split_once('=') {
            Some((name, value)) => volume.labels.get(name).is_some_and(|own| own == value),
            None => volume.labels.contains_key(label),
        };
        (self.all || volume.anonymous)
            && self.labels.iter().all(has)
            && !self.not_labels.iter().any(has)
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
pub fn networks(store: &Store) -> Result<Pruned, StoreError> {
    let mut pruned = Pruned::default();
    for network in store.networks()? {
        if !network.is_default() && store.remove_network(&network.id)? == RemovedNetwork::Gone {
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
            options: std::collections::BTreeMap::new(),
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
}
