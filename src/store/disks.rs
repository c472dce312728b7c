//! Writable layers: sparse ext4 files cloned from one template, so that starting a container
//! makes no file system.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::{Store, StoreError, TempFile};
use crate::container::record::Container;

/// Size of a writable layer in bytes; it takes only what is written.
pub const WRITABLE_SIZE: u64 = 16 << 30;

/// Changes when the template's contents do.
const TEMPLATE_VERSION: u32 = 1;

/// Why there is no writable layer.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// e2fsprogs is missing or failed.
    #[error("making the template of writable layers with mkfs.ext4 failed: {0}; install e2fsprogs")]
    Mkfs(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether what is written must survive its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasting {
    Yes,
    No,
}

impl Lasting {
    fn of(container: &Container) -> Self {
        match container.config.auto_remove {
            true => Self::No,
            false => Self::Yes,
        }
    }
}

impl Store {
    /// The container's writable disk, cloned from the template when it is not there yet; one of
    /// another size than most is made anew.
    pub fn ensure_writable_disk(&self, container: &Container) -> Result<PathBuf, DiskError> {
        let (id, lasting) = (&container.id, Lasting::of(container));
        let disk = self.paths.writable_disk(id);
        if disk.exists() {
            return Ok(disk);
        }
        let fail = |source| StoreError::io("make the writable layer", &disk, source);
        let partial = disk.with_extension("partial");
        super::run_dir::make_directory(&self.paths.container_dir(id))?;
        match container.config.disk_size {
            None => clone_sparse(&self.template(lasting)?, &partial).map_err(fail)?,
            Some(size) => {
                let file = create(&partial).map_err(fail)?;
                file.set_len(size).map_err(fail)?;
                make_file_system(&partial, lasting)?;
            }
        }
        fs::rename(&partial, &disk).map_err(fail)?;
        Ok(disk)
    }

    /// Bytes on the disk of what a container wrote: its files beyond an empty writable layer,
    /// and its log.
    pub fn container_size(&self, container: &Container) -> Result<u64, StoreError> {
        let id = &container.id;
        let directory = self.paths.container_dir(id);
        let size = super::volumes::size_of(&directory)
            .map_err(|source| StoreError::io("measure", &directory, source))?;
        let disk = self.paths.writable_disk(id);
        let empty = if disk.exists() {
            allocated(&self.template_path(Lasting::of(container)))
        } else {
            0
        };
        Ok(size.saturating_sub(empty))
    }

    fn template_path(&self, lasting: Lasting) -> PathBuf {
        let kind = match lasting {
            Lasting::Yes => "writable",
            Lasting::No => "transient",
        };
        let name = format!("{kind}-template-{TEMPLATE_VERSION}.ext4");
        self.paths.root.join(name)
    }

    /// A writable disk that goes when it is dropped, or with its process.
    pub fn scratch_disk(&self) -> Result<TempFile, DiskError> {
        let template = self.template(Lasting::No)?;
        let disk = self.temp_file("disk")?;
        clone_into(&template, disk.file())
            .map_err(|source| StoreError::io("make the writable layer", disk.path(), source))?;
        Ok(disk)
    }

    fn template(&self, lasting: Lasting) -> Result<PathBuf, DiskError> {
        let path = self.template_path(lasting);
        if path.exists() {
            return Ok(path);
        }
        let temporary = self.temp_file("template")?;
        let fail = |source| StoreError::io("write", &path, source);
        temporary.file().set_len(WRITABLE_SIZE).map_err(fail)?;
        make_file_system(temporary.path(), lasting)?;
        // Two commands at once make the same file twice; either may stay.
        temporary.persist(&path).map_err(fail)?;
        Ok(path)
    }
}

/// Bytes on the disk of a file; none of one that is not there.
pub(super) fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

/// An ext4 file system whose unused parts stay holes: tables are initialised by use.
fn make_file_system(path: &Path, lasting: Lasting) -> Result<(), DiskError> {
    const UUID: &str = "68756c6c-7772-4974-8162-6c6500000001";
    const FEATURES: &str = "^resize_inode,^dir_nlink,uninit_bg,metadata_csum,64bit";
    let mut extended = format!("lazy_itable_init=1,nodiscard,hash_seed={UUID}");
    let (features, journal) = match lasting {
        Lasting::Yes => {
            extended.push_str(",lazy_journal_init=1");
            (FEATURES.to_owned(), &["-J", "size=16"][..])
        }
        // Nothing is ever to be repaired: no journal, no second superblock.
        Lasting::No => {
            extended.push_str(",num_backup_sb=0");
            (format!("{FEATURES},^has_journal,sparse_super2"), &[][..])
        }
    };
    let output = Command::new("mkfs.ext4")
        .args([
            "-q", "-F", "-b", "4096", "-m", "0", "-i", "32768", "-U", UUID, "-L", "hull",
        ])
        .args(["-O", &features])
        .args(journal)
        .args(["-E", &extended])
        .arg(path)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| DiskError::Mkfs(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(DiskError::Mkfs(
            said.lines().next().unwrap_or("no message").to_owned(),
        ))
    }
}

fn create(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// Copies the data of `from` and leaves its holes holes.
fn clone_sparse(from: &Path, to: &Path) -> io::Result<()> {
    clone_into(from, &create(to)?)
}

fn clone_into(from: &Path, target: &File) -> io::Result<()> {
    let source = File::open(from)?;
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut position: i64 = 0;
    loop {
        let start = match lseek(&source, position, Whence::SeekData) {
            Ok(start) => start,
            Err(Errno::ENXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = lseek(&source, start, Whence::SeekHole)?;
        copy_range(&source, target, start, end)?;
        position = end;
    }
}

fn copy_range(source: &File, target: &File, start: i64, end: i64) -> io::Result<()> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let left = usize::try_from(end - from).unwrap_or(usize::MAX);
        let copied =
            nix::fcntl::copy_file_range(source, Some(&mut from), target, Some(&mut to), left)?;
        if copied == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn clones_have_the_data_and_the_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"begin", 4096).unwrap();
        file.write_all_at(b"end", (64 << 20) - 3).unwrap();
        clone_sparse(&from, &to).unwrap();
        assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_template_takes_little_space() {
        let dir = tempfile::tempdir().unwrap();
        for (lasting, most) in [(Lasting::Yes, 4 << 20), (Lasting::No, 1 << 20)] {
            let path = dir.path().join("t");
            File::create(&path).unwrap().set_len(WRITABLE_SIZE).unwrap();
            make_file_system(&path, lasting).unwrap();
            let taken = fs::metadata(&path).unwrap().blocks() * 512;
            assert!(taken < most, "{lasting:?}: {taken} bytes");
        }
    }
}
