//! Files being written: locked by their writer, renamed into place when whole.
//!
//! A temporary file whose lock nobody holds is the leftover of a process that was killed, and
//! whoever opens the store next may delete it.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::builds::size_of;

/// A file under the store's `tmp` directory, deleted when dropped.
#[derive(Debug)]
pub struct TempFile {
    file: File,
    path: PathBuf,
    kept: bool,
}

impl TempFile {
    /// Creates an empty one; `kind` begins its name.
    pub fn create(directory: &Path, kind: &str) -> io::Result<Self> {
        loop {
            let path = directory.join(unique(kind));
            let opened = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Between creating and locking, a cleaner may have taken it for a leftover.
            if file.metadata()?.nlink() > 0 {
                return Ok(Self {
                    file,
                    path,
                    kept: false,
                });
            }
        }
    }

    /// The open file, readable and writable.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last part of its path.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Writes everything to the disk and gives the file its final name, replacing what is there.
    pub fn persist(mut self, target: &Path) -> io::Result<()> {
        self.file.sync_data()?;
        std::fs::rename(&self.path, target)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing better can be done here; the next open of the store tries again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A directory under the store's `tmp` directory, deleted with all in it when dropped.
#[derive(Debug)]
pub struct TempDir {
    _lock: File,
    path: PathBuf,
}

impl TempDir {
    /// Creates an empty one; `kind` begins its name.
    pub fn create(directory: &Path, kind: &str) -> io::Result<Self> {
        loop {
            let path = directory.join(unique(kind));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // As with files: a cleaner may have been faster.
            let lock = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            if lock.try_lock().is_ok() && lock.metadata()?.nlink() > 0 {
                return Ok(Self { _lock: lock, path });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // As with files.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A name that no other temporary file has.
fn unique(kind: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "{kind}-{:x}-{:x}-{:x}",
        std::process::id(),
        since.as_nanos(),
        COUNT.fetch_add(1, Ordering::Relaxed),
    )
}

/// What a killed process left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The file's name.
    pub name: String,
    /// Bytes that it took.
    pub size: u64,
}

/// Deletes every file and directory in `directory` that no living process has locked.
pub fn remove_leftovers(directory: &Path) -> io::Result<Vec<Leftover>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let file = match File::open(entry.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let (is_file, is_dir) = (metadata.is_file(), metadata.is_dir());
        if !(is_file || is_dir) || file.try_lock().is_err() {
            continue;
        }
        let (removed, size) = match is_dir {
            true => {
                let size = size_of(&entry.path());
                (std::fs::remove_dir_all(entry.path()), size)
            }
            false => (std::fs::remove_file(entry.path()), metadata.len()),
        };
        match removed {
            Ok(()) => found.push(Leftover {
                name: entry.file_name().to_string_lossy().into_owned(),
                size,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_what_nobody_holds_is_a_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let tmp = dir.path();
        let held = TempFile::create(tmp, "held").unwrap();
        let busy = TempDir::create(tmp, "busy").unwrap();
        std::fs::write(busy.path().join("x"), b"x").unwrap();
        std::fs::write(tmp.join("dead-1"), b"12345").unwrap();
        let found = remove_leftovers(tmp).unwrap();
        assert_eq!(
            found,
            [Leftover {
                name: "dead-1".to_owned(),
                size: 5
            }]
        );
        assert!(held.path().exists() && busy.path().join("x").exists());
        std::fs::create_dir_all(tmp.join("dead-2/d")).unwrap();
        assert_eq!(remove_leftovers(tmp).unwrap().len(), 1);
        drop(busy);
        assert_eq!(std::fs::read_dir(tmp).unwrap().count(), 1);
        let path = held.path().to_owned();
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn persisted_files_have_their_content_and_stay() {
        let dir = tempfile::tempdir().unwrap();
        let temp = TempFile::create(dir.path(), "x").unwrap();
        temp.file().write_all(b"whole").unwrap();
        let target = dir.path().join("target");
        temp.persist(&target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
