//! The state directory: metadata in SQLite, blobs and layers in files named by their digests.
//!
//! Nothing else in hull touches that directory. Three rules keep it readable after a `kill -9`
//! at any instant:
//!
//! - a file gets its final name only when it is whole and verified ([`TempFile::persist`]);
//! - a row that names a file is written after the file is in place, and a row whose file is
//!   missing counts as absent;
//! - files get their final names, and are deleted, in transactions that have the database to
//!   themselves, and what is being put together is kept from the garbage collector by a
//!   [`Lease`].
//!
//! The next command to open the store deletes what killed ones left, and can say so
//! ([`Store::repairs`]).

mod builds;
mod containers;
mod db;
mod disks;
mod events;
mod gc;
mod images;
mod kvm;
mod lease;
mod lock;
mod names;
mod networks;
mod paths;
mod reports;
mod run_dir;
mod temp;
mod volumes;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use builds::{BuildCache, CacheOwner, CacheRecord};
pub use containers::{Found, Inserted};
pub use disks::{DiskError, WRITABLE_SIZE};
pub use gc::Freed;
pub use images::{ImageRecord, LayerRecord, NewNames};
pub use lease::{Lease, claim_layer};
pub use lock::DigestLock;
pub use names::{NameRecord, RepoDigest};
pub use networks::{MemberRecord, RemovedNetwork};
pub use paths::Paths;
pub use run_dir::{Lock, SocketPath};
pub use temp::{Leftover, TempDir, TempFile};
pub use volumes::{RemovedVolume, VolumeRecord};

use crate::image::digest::Digest;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {action} {path}: {cause}{}", advice(cause))]
    Io {
        /// What was tried, as in "cannot … this path".
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// SQLite reported something.
    #[error(
        "the database {path} cannot be used: {cause}{}",
        database_advice(cause)
    )]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        cause: rusqlite::Error,
    },
    /// The schema is from a later version of hull.
    #[error(
        "{path} was written by a newer hull: use that version, or set HULL_ROOT to another directory"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
    },
    /// There is no directory to put the state in.
    #[error("no place for hull's state: set HOME, XDG_DATA_HOME or HULL_ROOT")]
    NoHome,
}

/// What to do about a full disk, after a message about one.
fn advice(cause: &std::io::Error) -> &'static str {
    match cause.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; make room, for example with `hull image prune --all`"
        }
        _ => "",
    }
}

/// What to do about a database that is none any more.
fn database_advice(cause: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match cause.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            "; put back a copy of it, or move its directory away and begin anew"
        }
        _ => "",
    }
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, cause: std::io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            cause,
        }
    }

    /// Whether the disk, or the user's share of it, is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self,
            Self::Io { cause, .. } if matches!(
                cause.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            )
        )
    }
}

/// The open state directory. Threads may share it; transactions then take turns.
#[derive(Debug)]
pub struct Store {
    paths: Paths,
    db: Mutex<Connection>,
    repairs: Vec<String>,
}

impl Store {
    /// Opens the store, creating it when it is not there and tidying up after killed commands.
    pub fn open(paths: &Paths) -> Result<Self, StoreError> {
        for directory in [&paths.root, &paths.blobs(), &paths.layers(), &paths.tmp()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|cause| StoreError::io("create the directory", directory, cause))?;
        }
        let db = db::open(&paths.database())?;
        let mut store = Self {
            paths: paths.clone(),
            db: Mutex::new(db),
            repairs: Vec::new(),
        };
        store.repairs = store.repair()?;
        Ok(store)
    }

    /// The directories.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// What opening the store found broken and put right, one sentence each.
    pub fn repairs(&self) -> &[String] {
        &self.repairs
    }

    /// Runs queries that all see the database as it is at the first of them, whatever other
    /// commands change meanwhile. It waits for nobody.
    pub fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut db = self.connection();
        let run = || query(&*db.transaction_with_behavior(TransactionBehavior::Deferred)?);
        run().map_err(|cause| self.database_error(cause))
    }

    /// Runs changes in one transaction that has the database to itself; nothing of it stays when
    /// `change` fails.
    pub fn write<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut db = self.connection();
        let run = || {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|cause| self.database_error(cause))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere rolled its transaction back; the connection itself is sound.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn database_error(&self, cause: rusqlite::Error) -> StoreError {
        StoreError::Database {
            path: self.paths.database(),
            cause,
        }
    }

    /// A new temporary file; `kind` begins its name.
    pub fn temp_file(&self, kind: &str) -> Result<TempFile, StoreError> {
        let tmp = self.paths.tmp();
        TempFile::create(&tmp, kind)
            .map_err(|cause| StoreError::io("create a file in", &tmp, cause))
    }

    /// A new directory that is deleted when dropped.
    pub fn temp_dir(&self, kind: &str) -> Result<TempDir, StoreError> {
        let tmp = self.paths.tmp();
        TempDir::create(&tmp, kind)
            .map_err(|cause| StoreError::io("create a directory in", &tmp, cause))
    }

    /// Waits for the right to fetch what `digest` names; `waiting` is called when another
    /// process has it.
    pub fn lock_digest(
        &self,
        digest: &Digest,
        waiting: impl FnOnce(),
    ) -> Result<DigestLock, StoreError> {
        let locks = self.paths.locks();
        DigestLock::wait(&locks, digest, waiting)
            .map_err(|cause| StoreError::io("lock", &locks, cause))
    }

    /// The same, without waiting for another process or thread that has it.
    pub fn try_lock_digest(&self, digest: &Digest) -> Result<Option<DigestLock>, StoreError> {
        let locks = self.paths.locks();
        DigestLock::take(&locks, digest).map_err(|cause| StoreError::io("lock", &locks, cause))
    }

    /// The file of a compressed layer, whether or not it exists.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.paths.blobs().join(digest.hex())
    }

    /// The EROFS image of a layer, whether or not it exists.
    pub fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.paths.layers().join(format!("{}.erofs", diff_id.hex()))
    }

    /// Bytes on the disk of a layer in both of its forms.
    pub fn layer_size(&self, diff_id: &Digest, blob: &Digest) -> u64 {
        disks::allocated(&self.layer_path(diff_id)) + disks::allocated(&self.blob_path(blob))
    }

    /// Deletes what killed processes left, and describes it.
    fn repair(&self) -> Result<Vec<String>, StoreError> {
        let tmp = self.paths.tmp();
        let leftovers =
            temp::remove_leftovers(&tmp).map_err(|cause| StoreError::io("tidy up", &tmp, cause))?;
        if leftovers.is_empty() {
            return Ok(Vec::new());
        }
        let mut repairs = Vec::new();
        for leftover in &leftovers {
            // A guest of a build has its addresses under its disk's name.
            self.disconnect_all(&leftover.name)?;
        }
        let (leases, mut files): (Vec<_>, Vec<_>) = leftovers
            .iter()
            .partition(|leftover| Lease::is_file(&leftover.name));
        // An empty one may be another command's that has not locked it yet, and makes another.
        files.retain(|leftover| leftover.size > 0);
        if !files.is_empty() {
            let size = files.iter().map(|leftover| leftover.size).sum::<u64>();
            repairs.push(format!(
                "removed {} unfinished {} ({size} bytes) of an interrupted command",
                files.len(),
                if files.len() == 1 { "file" } else { "files" },
            ));
        }
        if !leases.is_empty() {
            for lease in leases {
                self.release_owner(&lease.name)?;
            }
            let freed = self.collect_garbage()?;
            if freed.files > 0 {
                repairs.push(format!(
                    "removed {} unused {} ({} bytes) of an interrupted command",
                    freed.files,
                    if freed.files == 1 { "layer" } else { "layers" },
                    freed.bytes,
                ));
            }
        }
        Ok(repairs)
    }
}

#[cfg(test)]
mod tests;
