//! Volumes in docker's JSON shape, and which of them are meant.

use anyhow::bail;
use serde_json::{Value, json};

use crate::store::{Store, VolumeRecord};
use crate::time::rfc3339;

/// The volumes that `KEY=VALUE` filters let through.
pub fn list(store: &Store, filters: &[String]) -> anyhow::Result<Vec<VolumeRecord>> {
    let used = store.volumes_in_use()?;
    let mut volumes = store.volumes()?;
    for filter in filters {
        let Some((key, value)) = filter.split_once('=') else {
            bail!("invalid filter {filter:?}, use KEY=VALUE");
        };
        match (key, value) {
            ("dangling", "true" | "1") => volumes.retain(|v| !used.contains(&v.name)),
            ("dangling", "false" | "0") => volumes.retain(|v| used.contains(&v.name)),
            ("name", text) => volumes.retain(|v| v.name.contains(text)),
            ("driver", driver) => volumes.retain(|_| driver == "local"),
            ("label", label) => volumes.retain(|v| match label.split_once('=') {
                Some((key, value)) => v.labels.get(key).is_some_and(|own| own == value),
                None => v.labels.contains_key(label),
            }),
            _ => bail!("invalid filter {filter:?}, use dangling, driver, label or name"),
        }
    }
    Ok(volumes)
}

/// Everything about a volume.
pub fn value(store: &Store, volume: &VolumeRecord) -> Value {
    json!({
        "CreatedAt": rfc3339(volume.created),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": store.paths().volume_data(&volume.name),
        "Name": volume.name,
        "Options": (!volume.options.is_empty()).then_some(&volume.options),
        "Scope": "local",
    })
}
