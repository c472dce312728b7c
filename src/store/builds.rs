//! What builds leave besides images: which image each was made of, and which step made it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Digest, NewNames, Store, StoreError};

pub(super) const SCHEMA: &str = "
CREATE TABLE image_parent (
    image TEXT NOT NULL PRIMARY KEY REFERENCES image (id) ON DELETE CASCADE,
    parent TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX image_parent_parent ON image_parent (parent);
CREATE TABLE build_step (
    step TEXT NOT NULL PRIMARY KEY,
    image TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX build_step_image ON build_step (image);
";

/// Notes where a built image comes from, in the transaction that stores it.
pub(super) fn record(
    tx: &Transaction<'_>,
    image: &Digest,
    names: &NewNames,
) -> rusqlite::Result<()> {
    if let Some(parent) = &names.parent {
        tx.execute(
            "INSERT OR REPLACE INTO image_parent (image, parent) VALUES (?1, ?2)",
            params![image, parent],
        )?;
    }
    if let Some(step) = &names.step {
        tx.execute(
            "INSERT OR REPLACE INTO build_step (step, image) VALUES (?1, ?2)",
            params![step, image],
        )?;
    }
    Ok(())
}

/// Whose a new directory for commands of builds is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOwner {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Store {
    /// The directory that commands of builds know by an id, made for `owner` when it is not
    /// there.
    pub fn build_cache(&self, id: &Digest, owner: CacheOwner) -> Result<PathBuf, StoreError> {
        let path = self.paths.root.join("build-cache").join(id.hex());
        let fail = |cause| StoreError::io("create the directory", &path, cause);
        if !path.is_dir() {
            let parent = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path.parent().unwrap_or(&path));
            parent.map_err(fail)?;
            match DirBuilder::new().create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made.map_err(fail)?;
                    let CacheOwner { mut mode, uid, gid } = owner;
                    if (uid, gid) != (0, 0) {
                        match chown(&path, Some(uid), Some(gid)) {
                            // An ordinary user cannot give files away, and needs not: the
                            // directory above is closed to everybody else.
                            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                                mode |= 0o777;
                            }
                            given => given.map_err(fail)?,
                        }
                    }
                    // Whatever the mask of this process is.
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(fail)?;
                }
            }
        }
        Ok(path)
    }

    /// Removes what commands of builds keep from one build to the next; returns its size in
    /// bytes.
    pub fn remove_build_caches(&self) -> Result<u64, StoreError> {
        let path = self.paths.root.join("build-cache");
        let size = size_of(&path);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("delete", &path, error))
            }
            _ => Ok(size),
        }
    }

    /// The image that a step made before, if it is still here.
    pub fn built(&self, step: &Digest) -> Result<Option<Digest>, StoreError> {
        self.read(|db| {
            db.query_row(
                "SELECT image FROM build_step WHERE step = ?1",
                [step],
                |row| row.get(0),
            )
            .optional()
        })
    }

    /// Notes what came of steps elsewhere, as far as the images are here.
    pub fn add_built(
        &self,
        steps: &BTreeMap<Digest, Digest>,
        parents: &BTreeMap<Digest, Digest>,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            for (step, image) in steps {
                tx.execute(
                    "INSERT OR IGNORE INTO build_step (step, image)
                     SELECT ?1, id FROM image WHERE id = ?2",
                    params![step, image],
                )?;
            }
            for (image, parent) in parents {
                tx.execute(
                    "INSERT OR IGNORE INTO image_parent (image, parent)
                     SELECT id, ?2 FROM image WHERE id = ?1",
                    params![image, parent],
                )?;
            }
            Ok(())
        })
    }

    /// The image that a build made this one of, if that is still here.
    pub fn parent(&self, image: &Digest) -> Result<Option<Digest>, StoreError> {
        self.read(|db| {
            db.query_row(
                "SELECT parent FROM image_parent JOIN image ON image.id = parent
                 WHERE image_parent.image = ?1",
                [image],
                |row| row.get(0),
            )
            .optional()
        })
    }

    /// Every built image with the one that it was made of.
    pub fn parents(&self) -> Result<BTreeMap<Digest, Digest>, StoreError> {
        self.read(|db| {
            db.prepare("SELECT image, parent FROM image_parent")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// Whether builds made other images of this one.
    pub fn has_children(&self, image: &Digest) -> Result<bool, StoreError> {
        self.read(|db| {
            db.query_row(
                "SELECT EXISTS (SELECT 1 FROM image_parent WHERE parent = ?1)",
                [image],
                |row| row.get(0),
            )
        })
    }
}

/// Bytes that a directory takes on the disk, as far as it can be read.
pub(super) fn size_of(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    let sizes = entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        });
    sizes.sum()
}
