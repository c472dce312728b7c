//! The emulators as a read-only disk for guests: one EROFS image made from the directory of
//! static qemu-user programs, once, and kept in the state directory.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::binfmt::TABLE;
use crate::image::digest::Digest;
use crate::image::layer::{self, LayerLimits};
use crate::store::{Store, StoreError};

/// Why there is no disk of emulators.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// A program cannot be read.
    #[error("cannot read the emulator {path}: {source}")]
    Read {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The EROFS image cannot be made.
    #[error("cannot make the disk of emulators: {0}")]
    Make(#[from] layer::LayerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The EROFS image with the emulators in `directory` under `/bin`.
pub fn disk(store: &Store, directory: &Path) -> Result<PathBuf, EmulatorError> {
    let programs = programs(directory)?;
    let target = store
        .paths()
        .root
        .join(format!("emulators-{}.erofs", key(&programs)));
    if target.exists() {
        return Ok(target);
    }
    let temporary = store.temp_file("emulators")?;
    let archive = archive(&programs)?;
    layer::convert(
        archive.as_slice(),
        temporary.file(),
        &LayerLimits::default(),
    )?;
    temporary
        .persist(&target)
        .map_err(|e| StoreError::io("write", &target, e))?;
    Ok(target)
}

/// The programs that are there, in the table's order, with what identifies their content.
fn programs(directory: &Path) -> Result<Vec<(&'static str, PathBuf, fs::Metadata)>, EmulatorError> {
    let mut found = Vec::new();
    let names = TABLE
        .iter()
        .flat_map(|row| [Some(row.emulator), row.better]);
    for name in names.flatten() {
        let path = directory.join(name);
        match fs::metadata(&path) {
            Ok(metadata) => found.push((name, path, metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(EmulatorError::Read { path, source }),
        }
    }
    Ok(found)
}

/// Names, sizes and times: hashing the programs themselves would cost every start.
fn key(programs: &[(&str, PathBuf, fs::Metadata)]) -> String {
    let mut hasher = Sha256::new();
    for (name, _, metadata) in programs {
        hasher.update(format!("{name} {} {}\n", metadata.len(), metadata.mtime()));
    }
    Digest::from_hasher(hasher).hex()[..16].to_owned()
}

fn archive(programs: &[(&str, PathBuf, fs::Metadata)]) -> Result<Vec<u8>, EmulatorError> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut finish = || -> io::Result<()> {
        let mut folder = tar::Header::new_gnu();
        folder.set_entry_type(tar::EntryType::Directory);
        folder.set_mode(0o755);
        folder.set_size(0);
        builder.append_data(&mut folder, "bin/", io::empty())
    };
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| EmulatorError::Read { path, source }
    };
    finish().map_err(unreadable(Path::new("bin")))?;
    for (name, path, metadata) in programs {
        let file = File::open(path).map_err(unreadable(path))?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(metadata.len());
        builder
            .append_data(&mut header, format!("bin/{name}"), file)
            .map_err(unreadable(path))?;
    }
    builder.into_inner().map_err(unreadable(Path::new("bin")))
}
