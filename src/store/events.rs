//! The journal of events: rows that grow at one end and go at the other.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::containers::{json, parse};
use super::{Store, StoreError};
use crate::container::record::{Config, now_ns};
use crate::events::{Event, Note};

pub(super) const SCHEMA: &str = "
CREATE TABLE event (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    attributes TEXT NOT NULL
);
";

/// Events that are kept.
const KEPT: i64 = 4096;

impl Store {
    /// Events after one, of a span of time, oldest first.
    pub fn events(
        &self,
        after: i64,
        since: i64,
        until: Option<i64>,
    ) -> Result<Vec<Event>, StoreError> {
        self.read(|db| {
            db.prepare_cached(
                "SELECT id, time, kind, action, actor, attributes FROM event
                 WHERE id > ?1 AND time >= ?2 AND time <= ?3 ORDER BY id",
            )?
            .query_map(params![after, since, until.unwrap_or(i64::MAX)], event_row)?
            .collect()
        })
    }

    /// Writes down what happened to something that is not a container.
    pub fn note(&self, kind: &str, actor: &str, note: &Note) -> Result<(), StoreError> {
        self.write(|tx| insert(tx, kind, actor, note))
    }

    /// Writes down what happened to a container and changes nothing.
    pub fn note_container(&self, id: &str, notes: &[Note]) -> Result<(), StoreError> {
        self.write(|tx| insert_of_container(tx, id, notes))
    }
}

/// Adds an event and drops the oldest.
pub(super) fn insert(
    tx: &Transaction<'_>,
    kind: &str,
    actor: &str,
    note: &Note,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO event (time, kind, action, actor, attributes) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        now_ns(),
        kind,
        note.action,
        actor,
        json(&note.attributes)?
    ])?;
    tx.prepare_cached("DELETE FROM event WHERE id <= ?1")?
        .execute([tx.last_insert_rowid() - KEPT])?;
    Ok(())
}

/// Adds events of a container, with what docker says of it: image, name and labels.
pub(super) fn insert_of_container(
    tx: &Transaction<'_>,
    id: &str,
    notes: &[Note],
) -> rusqlite::Result<()> {
    if notes.is_empty() {
        return Ok(());
    }
    let known = tx
        .prepare_cached("SELECT name, config FROM container WHERE id = ?1")?
        .query_row([id], |row| {
            Ok((row.get::<_, String>(0)?, parse::<Config>(row, 1)?))
        })
        .optional()?;
    // One that was removed in between said so itself.
    let Some((name, config)) = known else {
        return Ok(());
    };
    for note in notes {
        let mut whole = Note {
            action: note.action.clone(),
            attributes: config.labels.clone(),
        };
        whole.attributes.extend(note.attributes.clone());
        whole
            .attributes
            .insert("image".to_owned(), config.image.clone());
        whole.attributes.insert("name".to_owned(), name.clone());
        insert(tx, "container", id, &whole)?;
    }
    Ok(())
}

fn event_row(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        id: row.get(0)?,
        time: row.get(1)?,
        kind: row.get(2)?,
        action: row.get(3)?,
        actor: row.get(4)?,
        attributes: parse(row, 5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Paths;

    #[test]
    fn the_journal_keeps_the_last_events_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Paths::under(dir.path())).unwrap();
        store
            .write(|tx| {
                for number in 0..KEPT + 10 {
                    insert(tx, "volume", &number.to_string(), &Note::new("create"))?;
                }
                Ok(())
            })
            .unwrap();
        let events = store.events(0, 0, None).unwrap();
        assert_eq!(events.len() as i64, KEPT);
        assert_eq!(events[0].actor, "10");
        let last = events.last().unwrap();
        assert_eq!(store.events(last.id, 0, None).unwrap(), []);
        assert_eq!(store.events(0, last.time + 1, None).unwrap(), []);
        store.note("image", "x", &Note::new("pull")).unwrap();
        assert_eq!(store.events(last.id, 0, None).unwrap()[0].action, "pull");
        // Of a container that is gone there is nothing to say.
        store.note_container("gone", &[Note::new("top")]).unwrap();
        assert_eq!(store.events(last.id, 0, None).unwrap().len(), 1);
    }
}
