//! Paths that a container must not read, or not write.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use guest_agent::parse::mount_options::attr;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat, makedev};

use super::root::Root;
use crate::error::{Result, guest, reason};
use crate::storage::filesystem;
use crate::sys::mount::{attach, clone_tree, set_attributes};

/// Covers each path: a file with `/dev/null`, a directory with an empty read-only one.
pub fn mask(root: &Root, paths: &[String]) -> Result<()> {
    let mut covers = Covers::default();
    for path in paths {
        let failed = |e| guest(format!("cannot mask {path}"), reason(e));
        let target = match root.lookup(Path::new(path)) {
            Ok(target) => target,
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            Err(e) => return Err(failed(e)),
        };
        let mode = fstat(&target).map_err(failed)?.st_mode;
        let directory = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
        let cover = if directory {
            covers.directory()?
        } else {
            covers.file(root).map_err(failed)?
        };
        attach(&cover, target.as_fd()).map_err(failed)?;
    }
    Ok(())
}

/// What is put over masked paths; each made at most once and then copied.
#[derive(Default)]
struct Covers {
    directory: Option<OwnedFd>,
    file: Option<OwnedFd>,
}

impl Covers {
    fn directory(&mut self) -> Result<OwnedFd> {
        let failed = |e| guest("cannot make an empty directory", reason(e));
        if let Some(first) = &self.directory {
            return clone_tree(first.as_fd(), false).map_err(failed);
        }
        let first = filesystem::mount("tmpfs", "tmpfs", [("nr_inodes", Some("1"))], attr::RDONLY)?;
        self.directory = Some(first.try_clone().map_err(|e| guest("cannot mask", e))?);
        Ok(first)
    }

    fn file(&mut self, root: &Root) -> nix::Result<OwnedFd> {
        let null = match self.file.take() {
            Some(null) => null,
            None => find_null(root)?,
        };
        let copy = clone_tree(null.as_fd(), false);
        self.file = Some(null);
        copy
    }
}

/// The container's own null device, or, where that is something else, the agent's.
fn find_null(root: &Root) -> nix::Result<OwnedFd> {
    if let Ok(own) = root.lookup(Path::new("/dev/null")) {
        let stat = fstat(&own)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3) {
            return Ok(own);
        }
    }
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open(c"/dev/null", flags, Mode::empty())
}

/// Makes each path, with everything mounted below it, read-only.
pub fn make_read_only(root: &Root, paths: &[String]) -> Result<()> {
    for path in paths {
        let failed = |e| guest(format!("cannot make {path} read-only"), reason(e));
        let target = match root.lookup(Path::new(path)) {
            Ok(target) => target,
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            Err(e) => return Err(failed(e)),
        };
        let tree = clone_tree(target.as_fd(), true).map_err(failed)?;
        set_attributes(tree.as_fd(), attr::RDONLY, 0, true).map_err(failed)?;
        attach(&tree, target.as_fd()).map_err(failed)?;
    }
    Ok(())
}
