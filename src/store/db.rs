//! The database: opening, migrating, transactions.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{StoreError, builds, containers, events, images, networks, volumes};
use crate::image::digest::Digest;

/// Every change of the schema, oldest first. The database counts how many it has seen; an entry
/// is never edited once released, and new tables come as new entries at the end.
const MIGRATIONS: &[&str] = &[
    images::SCHEMA,
    containers::SCHEMA,
    volumes::SCHEMA,
    events::SCHEMA,
    builds::SCHEMA,
    networks::SCHEMA,
    volumes::OPTIONS,
    builds::USE,
];

/// How long a command waits for another one's transaction.
const BUSY: Duration = Duration::from_secs(30);

/// How long until it is tried again where SQLite does not wait by itself.
const PAUSE: Duration = Duration::from_millis(2);

/// The log's pages after which it is written back; whoever opens it alone reads all of them.
const LOG_PAGES: i64 = 100;

/// Opens the database, creating and migrating it as needed.
pub fn open(path: &Path) -> Result<Connection, StoreError> {
    let fail = |cause| StoreError::Database {
        path: path.to_owned(),
        cause,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(fail)?;
    db.busy_timeout(BUSY).map_err(fail)?;
    let version = schema_version(&db).map_err(fail)?;
    if version == 0 {
        write_ahead(&db).map_err(fail)?;
    }
    db.pragma_update(None, "synchronous", "normal")
        .map_err(fail)?;
    db.pragma_update(None, "foreign_keys", true).map_err(fail)?;
    // Otherwise every command that uses the database alone would write the log back at its end
    // and begin a new one, and wait for the disk at both.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(fail)?;
    db.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)
        .map_err(fail)?;
    if version > MIGRATIONS.len() {
        return Err(StoreError::Newer {
            path: path.to_owned(),
        });
    }
    if version < MIGRATIONS.len() {
        migrate(&mut db).map_err(fail)?;
    }
    Ok(db)
}

fn schema_version(db: &Connection) -> rusqlite::Result<usize> {
    db.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        .map(|version| usize::try_from(version).unwrap_or(usize::MAX))
}

/// Keeps a log beside a new database. Where another command does the same at this moment, SQLite
/// says at once that it is busy, whatever the time it was given to wait.
fn write_ahead(db: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + BUSY;
    loop {
        match db.pragma_update(None, "journal_mode", "wal") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

/// Brings the schema up to date in one transaction, so that it is old or new, never between.
fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let seen = schema_version(&transaction)?;
    for change in MIGRATIONS.iter().skip(seen) {
        transaction.execute_batch(change)?;
    }
    if seen < MIGRATIONS.len() {
        transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
    }
    transaction.commit()
}

impl ToSql for Digest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.to_string()))
    }
}

impl FromSql for Digest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(FromSqlError::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_create_it_at_once() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.db");
            std::thread::scope(|scope| {
                let all: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| open(&path).map(drop)))
                    .collect();
                for one in all {
                    one.join().unwrap().unwrap();
                }
            });
        }
    }

    #[test]
    fn creating_twice_and_meeting_a_newer_schema() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        drop(open(&path).unwrap());
        let db = open(&path).unwrap();
        assert_eq!(schema_version(&db).unwrap(), MIGRATIONS.len());
        db.pragma_update(None, "user_version", 9999).unwrap();
        drop(db);
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Newer { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_database_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(
            error.contains("x.db") && error.contains("not a database"),
            "{error}"
        );
    }
}
