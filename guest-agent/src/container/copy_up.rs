//! Filling an empty volume with what the image has in its place.
//!
//! Purpose: docker's rule for volumes; the image's files go through an archive, so that owners,
//! links and attributes are kept as far as the share can.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use guest_agent::archive::{Owner, Packer, Unpack, unpack};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown, pipe2};

use super::root::Root;
use crate::error::{Result, guest, reason};

/// Copies what is at `destination` of `root` into the directory `share` when that is empty.
pub fn fill(root: &Root, destination: &Path, share: &OwnedFd) -> Result<()> {
    let failed = |error: std::io::Error| {
        let what = format!("cannot fill the volume at {}", destination.display());
        guest(what, error)
    };
    let source = match root.open_at(destination, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(source) => source,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        Err(errno) => return Err(failed(errno.into())),
    };
    // Descriptors name the directories whatever lies in their paths.
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut entries = fs::read_dir(path(share)).map_err(failed)?;
    if entries.next().is_some() {
        return Ok(());
    }
    let target = File::open(path(share)).map_err(failed)?;
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
    let options = Unpack {
        owner: Owner::Archive,
        set_ids: true,
        devices: false,
    };
    let copied = std::thread::scope(|scope| {
        let unpacking = scope.spawn(|| unpack(target.as_fd(), File::from(read), options));
        let mut packer = Packer::new(File::from(write), |_| Ok(Vec::new()));
        let packed = packer
            .children(Path::new(&path(&source)))
            .and_then(|()| packer.finish());
        match unpacking.join() {
            Ok(unpacked) => unpacked.and(packed),
            Err(_) => Err(std::io::Error::other("unpacking failed")),
        }
    });
    copied.map_err(failed)?;
    let own = fstat(&source).map_err(|e| guest("cannot stat", reason(e)))?;
    // An unprivileged host user owns everything in its volumes.
    let _ = fchown(
        &target,
        Some(Uid::from_raw(own.st_uid)),
        Some(Gid::from_raw(own.st_gid)),
    );
    let _ = fchmod(&target, Mode::from_bits_truncate(own.st_mode & 0o7777));
    Ok(())
}
