//! What the writable layer changes in the image: for `diff` and `commit`.
//!
//! Purpose: read overlayfs' upper directory (whiteouts, opaque directories, everything else is
//! new or different) beside the image's layers.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use guest_agent::archive::Packer;
use guest_agent::protocol::{Change, ChangeKind, Layering};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fstatat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};

use super::super::root::Root;
use super::{attributes, say};
use crate::error::{Result, guest, reason};
use crate::storage::MERGED;
use crate::storage::layers::overlay;
use crate::sys::{mount::attach_at, xattr};

const LOWER: &CStr = c"/lower";

/// What the agent puts into every root before the container starts, as docker does in a layer
/// that nobody sees; as long as it is empty it is no change.
const PROVIDED: [&str; 6] = [
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "dev",
    "proc",
    "sys",
];

/// Puts the read-only layers as one directory at [`LOWER`], in a mount namespace of the
/// caller's own.
pub(super) fn stack_layers(layers: &[String]) -> Result<()> {
    let failed = |e| guest("cannot stack the image's layers", reason(e));
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
    let stack = overlay(layers, None)?;
    match mkdir(LOWER, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    attach_at(&stack, LOWER).map_err(|e| guest("cannot attach the image's layers", reason(e)))
}

/// One line of JSON per change.
pub(super) fn print_changes(upper: &str, output: fs::File) -> io::Result<()> {
    let mut output = BufWriter::new(output);
    for change in changes(Path::new(upper), lower_path())? {
        say(
            &mut output,
            &Change {
                path: format!("/{}", change.path.to_string_lossy()),
                kind: change.kind,
            },
        )?;
    }
    output.flush()
}

/// The changes as a layer of an image.
pub(super) fn layer(upper: &str, how: &Layering, output: fs::File) -> io::Result<()> {
    let upper = Path::new(upper);
    for stub in &how.stubs {
        remove_stub(Path::new(stub))?;
    }
    let found = changes(upper, lower_path())?;
    if let Some(latest) = how.latest {
        for change in found.iter().filter(|c| c.kind != ChangeKind::Deleted) {
            let path = upper.join(&change.path);
            if fs::symlink_metadata(&path)?.mtime() >= latest {
                let time = TimeSpec::new(latest, 0);
                utimensat(
                    AT_FDCWD,
                    &path,
                    &time,
                    &time,
                    UtimensatFlags::NoFollowSymlink,
                )?;
            }
        }
    }
    let mut packer = Packer::new(output, attributes);
    for change in found {
        let name = &change.path;
        if change.kind == ChangeKind::Deleted {
            packer.empty(&whiteout(name, name.file_name().unwrap_or_default()))?;
            continue;
        }
        packer.one(&upper.join(name), name)?;
        if change.opaque {
            packer.empty(&name.join(".wh..wh..opq"))?;
        }
    }
    packer.finish()
}

fn lower_path() -> &'static Path {
    Path::new(LOWER.to_str().unwrap_or_default())
}

/// Removes what was made for a mount, and the directories that lead there, as far as the
/// image does not have them and they are empty.
fn remove_stub(path: &Path) -> io::Result<()> {
    let (merged, lower) = (Root::open(MERGED)?, Root::open(LOWER)?);
    let mut path = path;
    while let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        if lower.lookup(path).is_ok() {
            return Ok(());
        }
        let Ok(directory) = merged.lookup(parent) else {
            return Ok(());
        };
        let Ok(found) = fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) else {
            return Ok(());
        };
        let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
        let removed = match kind {
            SFlag::S_IFDIR => unlinkat(&directory, name, UnlinkatFlags::RemoveDir),
            SFlag::S_IFREG if found.st_size == 0 => {
                unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir)
            }
            _ => return Ok(()),
        };
        if removed.is_err() {
            // Somebody put something there.
            return Ok(());
        }
        path = parent;
    }
    Ok(())
}

/// The mark in an image's layer that a file below is gone.
fn whiteout(path: &Path, name: &OsStr) -> PathBuf {
    let mut mark = OsStr::new(".wh.").to_owned();
    mark.push(name);
    path.with_file_name(mark)
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    kind: ChangeKind,
    /// A directory that hides what the image has in it.
    opaque: bool,
}

/// All changes, sorted by path, a directory before what is in it.
fn changes(upper: &Path, lower: &Path) -> io::Result<Vec<Found>> {
    let mut walk = Walk {
        upper,
        lower,
        found: Vec::new(),
    };
    walk.directory(Path::new(""), true, true)?;
    walk.found
        .sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    Ok(walk.found)
}

struct Walk<'a> {
    upper: &'a Path,
    lower: &'a Path,
    found: Vec<Found>,
}

impl Walk<'_> {
    /// Notes what is in the directory; `known` when the image has it too, `merged` when the
    /// image's files in it show through. Returns whether anything in it is hidden from the user.
    fn directory(&mut self, path: &Path, known: bool, merged: bool) -> io::Result<bool> {
        // The depth of the tree is bounded by the length of a path, 4096 bytes for the guest.
        let mut hidden = false;
        let mut names: Vec<_> = fs::read_dir(self.upper.join(path))?
            .map(|entry| entry.map(|e| e.file_name()))
            .collect::<io::Result<_>>()?;
        names.sort();
        for name in names {
            let path = path.join(name);
            match fs::symlink_metadata(self.upper.join(&path)) {
                Ok(metadata) => hidden |= self.entry(&path, &metadata, known, merged)?,
                // A running container deletes files while they are listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(hidden)
    }

    fn entry(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        known: bool,
        merged: bool,
    ) -> io::Result<bool> {
        // A directory that the image does not have could be a link there.
        let below = match known {
            true => fs::symlink_metadata(self.lower.join(path)).ok(),
            false => None,
        };
        let is_whiteout = metadata.file_type().is_char_device() && metadata.rdev() == 0;
        if is_whiteout {
            if below.is_some() && merged {
                self.note(path, ChangeKind::Deleted, false);
            }
            return Ok(false);
        }
        if below.is_none() && is_provided(path, metadata) {
            return Ok(true);
        }
        let kind = match below {
            Some(_) => ChangeKind::Modified,
            None => ChangeKind::Added,
        };
        if !metadata.is_dir() {
            self.note(path, kind, false);
            return Ok(false);
        }
        let below_dir = below.filter(Metadata::is_dir);
        let opaque = below_dir.is_some() && self.is_opaque(path);
        let at = self.found.len();
        let hidden = self.directory(path, below_dir.is_some(), merged && !opaque)?;
        let changed = match &below_dir {
            Some(below) => {
                opaque
                    || self.found.len() > at
                    || (below.mode(), below.uid(), below.gid())
                        != (metadata.mode(), metadata.uid(), metadata.gid())
                    || (!hidden && below.mtime() != metadata.mtime())
            }
            None => true,
        };
        if changed {
            self.note(path, kind, opaque);
        }
        Ok(hidden)
    }

    fn note(&mut self, path: &Path, kind: ChangeKind, opaque: bool) {
        self.found.push(Found {
            path: path.to_owned(),
            kind,
            opaque,
        });
    }

    fn is_opaque(&self, path: &Path) -> bool {
        CString::new(self.upper.join(path).as_os_str().as_bytes())
            .ok()
            .and_then(|path| xattr::get(&path, c"trusted.overlay.opaque").ok())
            .is_some_and(|value| value == b"y")
    }
}

fn is_provided(path: &Path, metadata: &Metadata) -> bool {
    let known = PROVIDED.iter().any(|known| Path::new(known) == path) || path.starts_with("dev");
    known && (metadata.is_dir() || (metadata.is_file() && metadata.len() == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_changed_and_provided_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for path in [
            "upper/etc",
            "upper/new/deep",
            "upper/dev/pts",
            "lower/etc",
            "lower/same",
        ] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for path in ["upper/etc/hosts", "upper/etc/passwd", "lower/etc/passwd"] {
            fs::write(dir.path().join(path), "").unwrap();
        }
        fs::write(upper.join("new/deep/file"), "x").unwrap();
        let found = changes(&upper, &lower).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|found| (found.path.to_str().unwrap(), found.kind))
            .collect();
        use ChangeKind::{Added, Modified};
        assert_eq!(
            found,
            [
                ("etc", Modified),
                ("etc/passwd", Modified),
                ("new", Added),
                ("new/deep", Added),
                ("new/deep/file", Added),
            ]
        );
    }
}
