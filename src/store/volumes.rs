//! Volumes: named directories that outlive containers.
//!
//! A volume's row is made in the transaction that adds the first container with it, and it is
//! deleted with its files in one that has seen that no container has it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::events::insert as insert_event;
use super::{Paths, Store, StoreError};
use crate::container::record::{Config, now_ns};
use crate::events::Note;

pub(super) const SCHEMA: &str = "
CREATE TABLE volume (
    name TEXT NOT NULL PRIMARY KEY,
    created INTEGER NOT NULL,
    anonymous INTEGER NOT NULL,
    labels TEXT NOT NULL
) WITHOUT ROWID;
";

/// What the driver was told.
pub(super) const OPTIONS: &str = "
ALTER TABLE volume ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
";

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its name.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// Nobody gave it a name: it goes with its container.
    pub anonymous: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the driver was told, read by [`crate::container::volume_options`].
    pub options: BTreeMap<String, String>,
}

/// What came of removing a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedVolume {
    /// It is gone; its files took so many bytes.
    Gone(u64),
    /// There is none of this name.
    Missing,
    /// These containers have it.
    InUse(Vec<String>),
}

impl Paths {
    /// Where a volume's files are.
    pub fn volume_data(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name).join("_data")
    }
}

impl Store {
    /// Adds a volume; false when there is one of this name.
    pub fn create_volume(&self, volume: &VolumeRecord) -> Result<bool, StoreError> {
        // The row comes first: a directory without one would be nobody's.
        let added = self.write(|tx| insert(tx, volume))?;
        let path = self.paths.volume_data(&volume.name);
        fs::create_dir_all(&path).map_err(|e| StoreError::io("create the directory", &path, e))?;
        Ok(added)
    }

    /// Bytes that a volume's files take on the disk.
    pub fn volume_size(&self, name: &str) -> Result<u64, StoreError> {
        let path = self.paths.volume_data(name);
        size_of(&path).map_err(|source| StoreError::io("measure", &path, source))
    }

    /// All volumes by name.
    pub fn volumes(&self) -> Result<Vec<VolumeRecord>, StoreError> {
        self.read(|db| {
            db.prepare(
                "SELECT name, created, anonymous, labels, options FROM volume ORDER BY name",
            )?
            .query_map([], volume_row)?
            .collect()
        })
    }

    /// A volume by its name.
    pub fn volume(&self, name: &str) -> Result<Option<VolumeRecord>, StoreError> {
        self.read(|db| {
            db.query_row(
                "SELECT name, created, anonymous, labels, options FROM volume WHERE name = ?1",
                [name],
                volume_row,
            )
            .optional()
        })
    }

    /// The names of volumes that containers have.
    pub fn volumes_in_use(&self) -> Result<Vec<String>, StoreError> {
        let containers = self.containers()?;
        let binds = containers.iter().flat_map(|c| &c.config.binds);
        Ok(binds.filter_map(|bind| bind.volume.clone()).collect())
    }

    /// Removes a volume that no container has, with its files.
    pub fn remove_volume(&self, name: &str) -> Result<RemovedVolume, StoreError> {
        let mut deleted = Ok(0);
        let directory = self.paths.root.join("volumes").join(name);
        let outcome = self.write(|tx| {
            let known = tx
                .query_row("SELECT 1 FROM volume WHERE name = ?1", [name], |_| Ok(()))
                .optional()?;
            if known.is_none() {
                return Ok(RemovedVolume::Missing);
            }
            let users = users(tx, name)?;
            if !users.is_empty() {
                return Ok(RemovedVolume::InUse(users));
            }
            deleted = size_of(&directory).and_then(|size| match fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(size),
            });
            if deleted.is_ok() {
                tx.execute("DELETE FROM volume WHERE name = ?1", [name])?;
                insert_event(tx, "volume", name, &note("destroy"))?;
            }
            Ok(RemovedVolume::Gone(0))
        })?;
        let size = deleted.map_err(|e| StoreError::io("delete the directory", &directory, e))?;
        Ok(match outcome {
            RemovedVolume::Gone(_) => RemovedVolume::Gone(size),
            other => other,
        })
    }

    /// Removes the volumes of a container that nobody named, unless another container has them.
    pub fn remove_anonymous_volumes(&self, config: &Config) -> Result<(), StoreError> {
        if config.binds.is_empty() {
            return Ok(());
        }
        let anonymous: Vec<String> = self
            .volumes()?
            .into_iter()
            .filter(|volume| volume.anonymous)
            .map(|volume| volume.name)
            .collect();
        for name in config.binds.iter().filter_map(|bind| bind.volume.as_ref()) {
            if anonymous.contains(name) {
                self.remove_volume(name)?;
            }
        }
        Ok(())
    }
}

/// Adds the volumes of a new container that are not there yet.
pub(super) fn insert_volumes(tx: &Transaction<'_>, config: &Config) -> rusqlite::Result<()> {
    for bind in &config.binds {
        let Some(name) = &bind.volume else { continue };
        let volume = VolumeRecord {
            name: name.clone(),
            created: now_ns(),
            anonymous: bind.anonymous,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        };
        insert(tx, &volume)?;
    }
    Ok(())
}

fn insert(tx: &Transaction<'_>, volume: &VolumeRecord) -> rusqlite::Result<bool> {
    let json = |map: &BTreeMap<String, String>| {
        serde_json::to_string(map).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
    };
    let (labels, options) = (json(&volume.labels)?, json(&volume.options)?);
    let added = tx.execute(
        "INSERT OR IGNORE INTO volume (name, created, anonymous, labels, options)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            volume.name,
            volume.created,
            volume.anonymous,
            labels,
            options
        ],
    )?;
    if added > 0 {
        insert_event(tx, "volume", &volume.name, &note("create"))?;
    }
    Ok(added > 0)
}

fn note(action: &str) -> Note {
    Note::new(action).with("driver", "local")
}

fn volume_row(row: &Row<'_>) -> rusqlite::Result<VolumeRecord> {
    Ok(VolumeRecord {
        name: row.get(0)?,
        created: row.get(1)?,
        anonymous: row.get(2)?,
        labels: super::containers::parse(row, 3)?,
        options: super::containers::parse(row, 4)?,
    })
}

/// Ids of the containers that have a volume.
fn users(tx: &Transaction<'_>, name: &str) -> rusqlite::Result<Vec<String>> {
    let rows = tx
        .prepare("SELECT id, config FROM container")?
        .query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                super::containers::parse::<Config>(row, 1)?,
            ))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let has = |config: &Config| {
        let mut volumes = config
            .binds
            .iter()
            .filter_map(|bind| bind.volume.as_deref());
        volumes.any(|volume| volume == name)
    };
    Ok(rows
        .into_iter()
        .filter(|(_, config)| has(config))
        .map(|(id, _)| id)
        .collect())
}

/// Bytes that a directory takes on the disk.
pub(super) fn size_of(path: &std::path::Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    if !metadata.is_dir() {
        return Ok(metadata.blocks() * 512);
    }
    fs::read_dir(path)?.try_fold(0, |sum, entry| Ok(sum + size_of(&entry?.path())?))
}
