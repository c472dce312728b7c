//! What builds leave besides images: which image each was made of, and which step made it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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

pub(super) const USE: &str = "
CREATE TABLE build_use (
    image TEXT NOT NULL PRIMARY KEY REFERENCES image (id) ON DELETE CASCADE,
    used INTEGER NOT NULL
) WITHOUT ROWID;
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

/// A directory of commands of builds, kept as long as this is there.
#[derive(Debug)]
pub struct BuildCache {
    /// Where it is.
    pub path: PathBuf,
    _held: File,
}

/// What is known of such a directory.
#[derive(Debug, Clone)]
pub struct CacheRecord {
    /// Bytes on the disk.
    pub size: u64,
    /// When a build last had it, in seconds since 1970.
    pub used: i64,
    path: PathBuf,
}

/// The file beside a directory whose time is that of its last use, and whose lock is held by
/// those who use it.
fn mark(directory: &Path) -> PathBuf {
    directory.with_extension("used")
}

fn make_cache(path: &Path, owner: CacheOwner) -> io::Result<()> {
    match DirBuilder::new().create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    let CacheOwner { mut mode, uid, gid } = owner;
    if (uid, gid) != (0, 0) {
        match chown(path, Some(uid), Some(gid)) {
            // An ordinary user cannot give files away, and needs not: the directory above is
            // closed to everybody else.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => mode |= 0o777,
            given => given?,
        }
    }
    // Whatever the mask of this process is.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

impl Store {
    /// The directory that commands of builds know by an id, made for `owner` when it is not
    /// there. Nobody removes it as long as somebody has it.
    pub fn build_cache(&self, id: &Digest, owner: CacheOwner) -> Result<BuildCache, StoreError> {
        let all = self.paths.root.join("build-cache");
        let path = all.join(id.hex());
        let fail = |cause| StoreError::io("create the directory", &path, cause);
        loop {
            let parent = DirBuilder::new().recursive(true).mode(0o700).create(&all);
            parent.map_err(fail)?;
            let mark = mark(&path);
            let held = File::options()
                .append(true)
                .create(true)
                .open(&mark)
                .map_err(fail)?;
            held.lock_shared().map_err(fail)?;
            // Somebody may have removed it meanwhile.
            if held.metadata().map_err(fail)?.nlink() == 0 {
                continue;
            }
            held.set_modified(SystemTime::now()).map_err(fail)?;
            make_cache(&path, owner).map_err(fail)?;
            return Ok(BuildCache { path, _held: held });
        }
    }

    /// What commands of builds keep from one build to the next.
    pub fn build_caches(&self) -> Result<Vec<CacheRecord>, StoreError> {
        let all = self.paths.root.join("build-cache");
        let entries = match fs::read_dir(&all) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|cause| StoreError::io("read", &all, cause))?,
        };
        let mut found = Vec::new();
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                let used = fs::metadata(mark(&path)).map(|metadata| metadata.mtime());
                found.push(CacheRecord {
                    size: size_of(&path),
                    used: used.unwrap_or(0),
                    path,
                });
            }
        }
        Ok(found)
    }

    /// Removes one of those; false when a build has it.
    pub fn remove_build_cache(&self, cache: &CacheRecord) -> Result<bool, StoreError> {
        let fail = |cause| StoreError::io("delete", &cache.path, cause);
        let mark = mark(&cache.path);
        let held = File::options().append(true).create(true).open(&mark);
        if held.map_err(fail)?.try_lock().is_err() {
            return Ok(false);
        }
        match fs::remove_dir_all(&cache.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        fs::remove_file(&mark).map_err(fail)?;
        Ok(true)
    }

    /// Removes all of them but those that builds have; returns their size in bytes.
    pub fn remove_build_caches(&self) -> Result<u64, StoreError> {
        let mut freed = 0;
        for cache in self.build_caches()? {
            if self.remove_build_cache(&cache)? {
                freed += cache.size;
            }
        }
        // It stays when there is something in it.
        let _ = fs::remove_dir(self.paths.root.join("build-cache"));
        Ok(freed)
    }

    /// Says that a build is under way as long as the result is there.
    pub fn begin_build(&self) -> Result<File, StoreError> {
        let (file, fail) = self.build_lock()?;
        file.lock_shared().map_err(fail)?;
        Ok(file)
    }

    /// The right to remove what builds left, and to hold new ones up meanwhile; none while one
    /// is under way.
    pub fn between_builds(&self) -> Result<Option<File>, StoreError> {
        let (file, _) = self.build_lock()?;
        Ok(file.try_lock().is_ok().then_some(file))
    }

    fn build_lock(&self) -> Result<(File, impl Fn(io::Error) -> StoreError), StoreError> {
        let path = self.paths.root.join("build-lock");
        let fail = move |cause| StoreError::io("lock", &path, cause);
        let path = self.paths.root.join("build-lock");
        let file = File::options().append(true).create(true).open(&path);
        Ok((file.map_err(&fail)?, fail))
    }

    /// Notes that builds used these images, in seconds since 1970.
    pub fn note_built(&self, images: &BTreeSet<Digest>, now: i64) -> Result<(), StoreError> {
        self.write(|tx| {
            for image in images {
                tx.execute(
                    "INSERT OR REPLACE INTO build_use (image, used)
                     SELECT id, ?2 FROM image WHERE id = ?1",
                    params![image, now],
                )?;
            }
            Ok(())
        })
    }

    /// When builds last used images.
    pub fn build_uses(&self) -> Result<BTreeMap<Digest, i64>, StoreError> {
        self.read(|db| {
            db.prepare("SELECT image, used FROM build_use")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
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
