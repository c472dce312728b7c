//! Paths inside the container's root, resolved so that no symlink of the image leads out.
//!
//! Purpose: the image chooses every name below the root, so each lookup is confined by the
//! kernel (`RESOLVE_IN_ROOT`), and what is missing is created one component at a time.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

use crate::error::{Result, guest, reason};

/// More symlinks than the kernel follows in one path.
const MAX_LINKS: usize = 40;

const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything else, created as an empty file.
    File,
}

/// The root directory of a container that is being built.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens the directory at `path` of the caller's own tree as a root.
    pub fn open(path: &std::ffi::CStr) -> nix::Result<Self> {
        nix::fcntl::open(path, PATH | OFlag::O_DIRECTORY, Mode::empty()).map(Self)
    }

    /// A root that is already open.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The root directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Looks a path up, following symlinks inside the root.
    pub fn lookup(&self, path: &Path) -> nix::Result<OwnedFd> {
        self.open_at(path, PATH)
    }

    /// Opens a path with `flags`, following symlinks inside the root.
    pub fn open_at(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.0, path, how)
    }

    /// Looks a path up and creates what is missing: directories, and at the end `kind`.
    ///
    /// Returns the target and whether it was there before.
    pub fn ensure(&self, path: &Path, kind: Kind) -> Result<(OwnedFd, bool)> {
        let flags = match kind {
            Kind::Directory => PATH | OFlag::O_DIRECTORY,
            Kind::File => PATH,
        };
        let failed = |error: &str| guest(format!("cannot mount on {}", path.display()), error);
        match self.open_at(path, flags) {
            Ok(found) => {
                if kind == Kind::File && is(&found, SFlag::S_IFDIR).unwrap_or(false) {
                    return Err(failed(
                        "it is a directory in the image, the source is a file",
                    ));
                }
                Ok((found, true))
            }
            Err(Errno::ENOENT) => {
                let made = match self.create_last(path, kind) {
                    Ok(made) => Ok(made),
                    // Its parent is missing too, or it is a symlink to nothing.
                    Err(Errno::ENOENT | Errno::EEXIST) => self.create(path, kind),
                    Err(errno) => Err(errno),
                };
                Ok((made.map_err(|e| failed(&reason(e)))?, false))
            }
            Err(Errno::ENOTDIR) => Err(failed("it is not a directory in the image")),
            Err(errno) => Err(failed(&reason(errno))),
        }
    }

    /// Creates the last component only.
    fn create_last(&self, path: &Path, kind: Kind) -> nix::Result<OwnedFd> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::ENOENT);
        };
        make(&self.lookup(parent)?, Path::new(name), kind)
    }

    /// Walks `path` component by component. `done` never holds a symlink or `..`.
    fn create(&self, path: &Path, kind: Kind) -> nix::Result<OwnedFd> {
        let mut done = PathBuf::new();
        let mut current = self.lookup(Path::new("."))?;
        let mut rest = names(path);
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                done.pop();
                current = self.lookup(if done.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    &done
                })?;
                continue;
            }
            let here = Path::new(&name);
            let next = match openat2(&current, here, step()) {
                Err(Errno::ENOENT) => {
                    let kind = if rest.is_empty() {
                        kind
                    } else {
                        Kind::Directory
                    };
                    make(&current, here, kind)?
                }
                other => other?,
            };
            if is(&next, SFlag::S_IFLNK)? {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::ELOOP);
                }
                let target = PathBuf::from(readlinkat(&current, here)?);
                if target.is_absolute() {
                    done.clear();
                    current = self.lookup(Path::new("."))?;
                }
                let mut target = names(&target);
                target.append(&mut rest);
                rest = target;
                continue;
            }
            done.push(here);
            current = next;
        }
        Ok(current)
    }
}

/// Creates one name in a directory and opens it.
fn make(parent: &OwnedFd, name: &Path, kind: Kind) -> nix::Result<OwnedFd> {
    match kind {
        Kind::Directory => mkdirat(parent, name, Mode::from_bits_truncate(0o755))?,
        Kind::File => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            drop(openat(
                parent,
                name,
                flags,
                Mode::from_bits_truncate(0o644),
            )?);
        }
    }
    openat2(parent, name, step())
}

/// One step down that follows nothing: a symlink is opened itself.
fn step() -> OpenHow {
    OpenHow::new()
        .flags(PATH | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_BENEATH)
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn is(found: &OwnedFd, kind: SFlag) -> nix::Result<bool> {
    let mode = SFlag::from_bits_truncate(fstat(found)?.st_mode);
    Ok(mode & SFlag::S_IFMT == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A root inside a directory whose other entries must stay as they are.
    fn sample() -> (tempfile::TempDir, Root, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("root");
        fs::create_dir(&inner).unwrap();
        fs::create_dir(outer.path().join("secret")).unwrap();
        let path = std::ffi::CString::new(inner.to_str().unwrap()).unwrap();
        let root = Root::open(&path).unwrap();
        (outer, root, inner)
    }

    #[test]
    fn missing_directories_and_files_are_made() {
        let (_outer, root, inner) = sample();
        assert!(!root.ensure(Path::new("/a/b/c"), Kind::Directory).unwrap().1);
        assert!(root.ensure(Path::new("/a/b/c"), Kind::Directory).unwrap().1);
        root.ensure(Path::new("/a/x/file"), Kind::File).unwrap();
        assert!(inner.join("a/b/c").is_dir());
        assert_eq!(fs::read(inner.join("a/x/file")).unwrap(), b"");
        assert!(root.ensure(Path::new("/a/b"), Kind::File).is_err());
        assert!(
            root.ensure(Path::new("/a/x/file"), Kind::Directory)
                .is_err()
        );
        assert!(
            root.ensure(Path::new("/a/x/file/below"), Kind::Directory)
                .is_err()
        );
    }

    #[test]
    fn links_out_of_the_root_stay_inside() {
        let (outer, root, inner) = sample();
        symlink("/secret", inner.join("absolute")).unwrap();
        symlink("../../../../secret", inner.join("relative")).unwrap();
        symlink("/gone/deeper", inner.join("dangling")).unwrap();
        symlink("../secret/../upper", inner.join("up")).unwrap();
        for path in [
            "/absolute/x",
            "/relative/y",
            "/dangling/z",
            "/../../secret/w",
            "/up/v",
        ] {
            root.ensure(Path::new(path), Kind::Directory).unwrap();
        }
        assert_eq!(
            fs::read_dir(outer.path().join("secret")).unwrap().count(),
            0
        );
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2);
        for made in [
            "secret/x",
            "secret/y",
            "gone/deeper/z",
            "secret/w",
            "upper/v",
        ] {
            assert!(inner.join(made).is_dir(), "{made}");
        }
    }

    #[test]
    fn a_dangling_link_to_a_file_makes_its_target() {
        let (_outer, root, inner) = sample();
        fs::create_dir(inner.join("etc")).unwrap();
        symlink("../run/resolv.conf", inner.join("etc/resolv.conf")).unwrap();
        root.ensure(Path::new("/etc/resolv.conf"), Kind::File)
            .unwrap();
        assert!(inner.join("run/resolv.conf").is_file());
    }

    #[test]
    fn loops_end() {
        let (_outer, root, inner) = sample();
        symlink("b", inner.join("a")).unwrap();
        symlink("a", inner.join("b")).unwrap();
        assert!(root.ensure(Path::new("/a/x"), Kind::Directory).is_err());
        symlink("self/deeper", inner.join("self")).unwrap();
        assert!(root.ensure(Path::new("/self/x"), Kind::Directory).is_err());
    }
}
