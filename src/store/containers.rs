//! The table of containers, their directories and the lock that says one is alive.

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::events::insert_of_container;
use super::lease::claim_layer;
use super::networks::{delete_endpoints, insert_endpoints, plan_endpoints};
use super::run_dir::remove_directory;
use super::volumes::insert_volumes;
use super::{Digest, Paths, Store, StoreError};
use crate::container::record::{Config, Container, now_ns};
use crate::container::state::{State, Status};
use crate::events::Note;
use crate::network::record::ConnectError;

pub(super) const SCHEMA: &str = "
CREATE TABLE container (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL,
    created INTEGER NOT NULL,
    config TEXT NOT NULL,
    state TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX container_image ON container (image);
";

/// What [`Store::find_container`] found.
#[derive(Debug)]
pub enum Found {
    /// This one.
    One(Box<Container>),
    /// More than one id begins like that.
    Ambiguous,
    /// None.
    None,
}

/// What came of adding a container.
#[derive(Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is there.
    Done,
    /// The container with this id has its name.
    NameTaken(String),
    /// It cannot be connected to a network that it wants.
    Unconnected(ConnectError),
}

impl Paths {
    /// What a container keeps: its writable disk and its log.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// Where what its guest's kernel says is kept.
    pub fn console_log(&self, id: &str) -> PathBuf {
        self.container_dir(id).join("console.log")
    }

    /// Where a container's output is kept.
    pub fn container_log(&self, id: &str) -> PathBuf {
        self.container_dir(id).join("log")
    }

    /// A container's writable layer, an ext4 file system.
    pub fn writable_disk(&self, id: &str) -> PathBuf {
        self.container_dir(id).join("writable.ext4")
    }
}

impl Store {
    /// Adds a container, claims its image's layers and connects it to its networks; or adds
    /// nothing and says why.
    pub fn insert_container(&self, container: &Container) -> Result<Inserted, StoreError> {
        // Its directory is made by its first start: one without a row would be nobody's.
        self.write(|tx| {
            let owner: Option<String> = tx
                .query_row(
                    "SELECT id FROM container WHERE name = ?1",
                    [&container.name],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(owner) = owner {
                return Ok(Inserted::NameTaken(owner));
            }
            let asked = &container.config.network.attachments;
            let endpoints = match plan_endpoints(tx, &container.id, &container.name, asked)? {
                Ok(endpoints) => endpoints,
                Err(error) => return Ok(Inserted::Unconnected(error)),
            };
            tx.execute(
                "INSERT INTO container (id, name, image, created, config, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    container.id,
                    container.name,
                    container.config.image_id,
                    container.created_at,
                    json(&container.config)?,
                    json(&container.state)?,
                ],
            )?;
            insert_volumes(tx, &container.config)?;
            insert_endpoints(tx, &endpoints)?;
            claim_image(tx, &container.config.image_id, &owner_of(&container.id))?;
            insert_of_container(tx, &container.id, &[Note::new("create")])?;
            Ok(Inserted::Done)
        })
    }

    /// Records how a container is, and what happened to it.
    pub fn update_state(&self, id: &str, state: &State, notes: &[Note]) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "UPDATE container SET state = ?2 WHERE id = ?1",
                params![id, json(state)?],
            )?;
            insert_of_container(tx, id, notes)
        })
    }

    /// Changes what a container is asked to be; its next start, or its supervisor at the next
    /// end, takes that into account.
    pub fn update_config(
        &self,
        id: &str,
        change: impl FnOnce(&mut Config),
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut config =
                tx.query_row("SELECT config FROM container WHERE id = ?1", [id], |row| {
                    parse::<Config>(row, 0)
                })?;
            change(&mut config);
            tx.execute(
                "UPDATE container SET config = ?2 WHERE id = ?1",
                params![id, json(&config)?],
            )?;
            insert_of_container(tx, id, &[Note::new("update")])
        })
    }

    /// Gives a container another name; false when it is taken.
    pub fn rename_container(&self, id: &str, name: &str) -> Result<bool, StoreError> {
        self.write(|tx| {
            let taken = tx
                .query_row(
                    "SELECT 1 FROM container WHERE name = ?1",
                    [name],
                    |_| Ok(()),
                )
                .optional()?;
            if taken.is_none() {
                let old: String =
                    tx.query_row("SELECT name FROM container WHERE id = ?1", [id], |row| {
                        row.get(0)
                    })?;
                tx.execute("UPDATE container SET name = ?2 WHERE id = ?1", [id, name])?;
                let note = Note::new("rename").with("oldName", format!("/{old}"));
                insert_of_container(tx, id, &[note])?;
            }
            Ok(taken.is_none())
        })
    }

    /// All containers, newest first; those whose supervisor died are put right first.
    pub fn containers(&self) -> Result<Vec<Container>, StoreError> {
        let containers = self.read(|db| {
            db.prepare(&format!("{SELECT} ORDER BY created DESC, id"))?
                .query_map([], container_row)?
                .collect::<Result<Vec<_>, _>>()
        })?;
        let mut there = Vec::with_capacity(containers.len());
        for mut container in containers {
            if self.repair_container(&mut container)? {
                there.push(container);
            }
        }
        Ok(there)
    }

    /// The container with this name, id, or beginning of an id, put right if need be.
    pub fn find_container(&self, text: &str) -> Result<Found, StoreError> {
        let bare = text.strip_prefix('/').unwrap_or(text);
        let named = self.read(|db| {
            db.query_row(
                &format!("{SELECT} WHERE id = ?1 OR name = ?1"),
                [bare],
                container_row,
            )
            .optional()
        })?;
        let mut found = match named {
            Some(container) => container,
            None => {
                let mut like = self.containers_like(bare)?;
                match (like.pop(), like.pop()) {
                    (Some(one), None) => one,
                    (Some(_), Some(_)) => return Ok(Found::Ambiguous),
                    (None, _) => return Ok(Found::None),
                }
            }
        };
        Ok(match self.repair_container(&mut found)? {
            true => Found::One(Box::new(found)),
            false => Found::None,
        })
    }

    fn containers_like(&self, prefix: &str) -> Result<Vec<Container>, StoreError> {
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Vec::new());
        }
        // 'g' follows 'f', the last digit.
        self.read(|db| {
            db.prepare(&format!("{SELECT} WHERE id >= ?1 AND id < ?2 LIMIT 2"))?
                .query_map(
                    [prefix.to_ascii_lowercase(), format!("{prefix}g")],
                    container_row,
                )?
                .collect()
        })
    }

    /// Names of the containers that use an image.
    pub fn containers_of_image(&self, image: &Digest) -> Result<Vec<Container>, StoreError> {
        self.read(|db| {
            db.prepare(&format!("{SELECT} WHERE image = ?1 ORDER BY created"))?
                .query_map([image.to_string()], container_row)?
                .collect()
        })
    }

    /// Deletes everything that a container has, then forgets it; the caller holds its lock.
    ///
    /// `state` says that it is dying, with what else happened. Who is killed on the way leaves
    /// a container that is dead, which the next command removes.
    pub fn delete_container(
        &self,
        container: &Container,
        state: &State,
        notes: &[Note],
    ) -> Result<(), StoreError> {
        let id = &container.id;
        self.update_state(id, state, notes)?;
        remove_directory(&self.paths.container_dir(id))?;
        self.write(|tx| {
            insert_of_container(tx, id, &[Note::new("destroy")])?;
            tx.execute("DELETE FROM layer_refs WHERE owner = ?1", [owner_of(id)])?;
            delete_endpoints(tx, id)?;
            tx.execute("DELETE FROM container WHERE id = ?1", [id])
        })?;
        remove_directory(&self.paths.container_run_dir(id))
    }

    pub(super) fn container_row(&self, id: &str) -> Result<Option<Container>, StoreError> {
        self.read(|db| {
            db.query_row(&format!("{SELECT} WHERE id = ?1"), [id], container_row)
                .optional()
        })
    }

    /// A container that says it is running while nobody holds its lock lost its supervisor:
    /// record that. One whose removal was interrupted is removed. False when it is gone.
    fn repair_container(&self, container: &mut Container) -> Result<bool, StoreError> {
        let needs = |status: Status| status.is_live() || status == Status::Dead;
        if !needs(container.state.status) {
            return Ok(true);
        }
        let Some(_lock) = self.lock_container(&container.id)? else {
            return Ok(true);
        };
        // It may have ended by itself between the query and the lock.
        let Some(now) = self.container_row(&container.id)? else {
            remove_directory(&self.paths.container_run_dir(&container.id))?;
            return Ok(false);
        };
        *container = now;
        if !needs(container.state.status) {
            return Ok(true);
        }
        let mut notes = Vec::new();
        if container.state.status.is_live() {
            vmm::remove_limits(container.short_id());
            let error = "its supervisor was killed, and its machine with it";
            // Every live status leads to exited.
            let _ = container.state.exit(137, error, now_ns());
            notes.push(Note::new("die").with("exitCode", 137));
        }
        if container.state.status == Status::Dead {
            // What cannot be removed stays listed as dead, and can be tried again with rm.
            let removed = self.delete_container(container, &container.state, &notes);
            return Ok(removed.is_err());
        }
        if container.config.auto_remove {
            // Exited leads to dead.
            let _ = container.state.die();
            self.delete_container(container, &container.state, &notes)?;
            self.remove_anonymous_volumes(&container.config)?;
            return Ok(false);
        }
        self.update_state(&container.id, &container.state, &notes)?;
        Ok(true)
    }
}

const SELECT: &str = "SELECT id, name, created, config, state FROM container";

fn container_row(row: &Row<'_>) -> rusqlite::Result<Container> {
    Ok(Container {
        id: row.get(0)?,
        name: row.get(1)?,
        created_at: row.get(2)?,
        config: parse::<Config>(row, 3)?,
        state: parse::<State>(row, 4)?,
    })
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
    })
}

pub(super) fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

fn owner_of(id: &str) -> String {
    format!("container:{id}")
}

fn claim_image(tx: &Transaction<'_>, image: &str, owner: &str) -> rusqlite::Result<()> {
    for layer in image_layers(tx, image)? {
        claim_layer(tx, &layer, owner)?;
    }
    Ok(())
}

fn image_layers(db: &Connection, image: &str) -> rusqlite::Result<Vec<Digest>> {
    db.prepare(
        "SELECT diff_id FROM image_layer WHERE image = ?1
         UNION SELECT fixup FROM image WHERE id = ?1 AND fixup IS NOT NULL",
    )?
    .query_map([image], |row| row.get(0))?
    .collect()
}
