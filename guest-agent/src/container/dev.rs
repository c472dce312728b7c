//! `/dev` of a container, as docker fills it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use guest_agent::protocol::runtime::Device;
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::root::{Kind, Root};
use crate::error::{Result, guest, invalid, reason};
use crate::sys::mount::{attach, clone_tree};

const NODES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("core", "/proc/kcore"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the nodes and links that every container has, and those of the specification.
pub fn populate(root: &Root, devices: &[Device]) -> Result<()> {
    let (dev, _) = root.ensure(Path::new("/dev"), Kind::Directory)?;
    for (name, major, minor) in NODES {
        make_node(&dev, name, SFlag::S_IFCHR, 0o666, makedev(major, minor))?;
    }
    for (name, target) in LINKS {
        match symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(guest(format!("cannot create /dev/{name}"), reason(e))),
        }
    }
    devices
        .iter()
        .try_for_each(|device| extra_node(root, device))
}

fn make_node(dir: &OwnedFd, name: &str, kind: SFlag, mode: u32, number: u64) -> Result<()> {
    match mknodat(dir, name, kind, Mode::from_bits_truncate(mode), number) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(guest(format!("cannot create device {name}"), reason(e))),
    }
}

fn extra_node(root: &Root, device: &Device) -> Result<()> {
    let path = &device.path;
    let wrong = || invalid(format!("device {} cannot be made", path.display()));
    let kind = match device.kind.as_str() {
        "c" | "u" => SFlag::S_IFCHR,
        "b" => SFlag::S_IFBLK,
        "p" => SFlag::S_IFIFO,
        _ => return Err(wrong()),
    };
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(wrong)?;
    let parent = path
        .parent()
        .filter(|p| p.is_absolute())
        .ok_or_else(wrong)?;
    let major = u64::try_from(device.major).map_err(|_| wrong())?;
    let minor = u64::try_from(device.minor).map_err(|_| wrong())?;
    let (dir, _) = root.ensure(parent, Kind::Directory)?;
    let mode = device.file_mode.unwrap_or(0o666) & 0o7777;
    make_node(&dir, name, kind, mode, makedev(major, minor))?;
    if device.uid.is_some() || device.gid.is_some() {
        let (uid, gid) = (device.uid.map(Uid::from_raw), device.gid.map(Gid::from_raw));
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        fchownat(&dir, name, uid, gid, flags).map_err(|e| {
            guest(
                format!("cannot change the owner of {}", path.display()),
                reason(e),
            )
        })?;
    }
    Ok(())
}

/// Makes `/dev/console` the container's terminal.
pub fn bind_console(root: &Root, devpts: BorrowedFd<'_>, terminal: u32) -> Result<()> {
    let failed = |e| guest("cannot set up /dev/console", reason(e));
    let name = terminal.to_string();
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
    let slave = nix::fcntl::openat(devpts, name.as_str(), flags, Mode::empty()).map_err(failed)?;
    let tree = clone_tree(slave.as_fd(), false).map_err(failed)?;
    let (console, _) = root.ensure(Path::new("/dev/console"), Kind::File)?;
    attach(&tree, console.as_fd()).map_err(failed)
}
