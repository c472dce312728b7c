//! EROFS layers and the writable layer, stacked into one root.
//!
//! Purpose: mount each layer read-only, put overlayfs over them with the writable disk (or
//! a tmpfs) on top, and take it all apart again so that the disk is whole.

use std::os::fd::{AsFd, OwnedFd};

use guest_agent::protocol::Storage;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{mkdir, syncfs};

use super::devices::Devices;
use super::{LAYERS, MERGED, WRITABLE, filesystem};
use crate::error::{Result, guest, invalid};
use crate::sys;
use crate::sys::mount::attach_at;

/// More layers than overlayfs stacks.
const MAX_LAYERS: usize = 500;

const DIRECTORY: Mode = Mode::from_bits_truncate(0o755);

/// A merged root that is mounted at [`MERGED`].
#[derive(Debug)]
pub struct Merged {
    /// Whether the writable layer is a disk, which must be left whole.
    on_disk: bool,
}

/// Mounts what `storage` says, for writing or only for reading.
pub fn assemble(storage: &Storage, devices: &Devices, read_only: bool) -> Result<Merged> {
    if storage.layers.len() > MAX_LAYERS {
        let count = storage.layers.len();
        return Err(invalid(format!(
            "{count} layers are too many, overlayfs stacks {MAX_LAYERS}"
        )));
    }
    let mut lower = Vec::with_capacity(storage.layers.len());
    for (index, layer) in storage.layers.iter().enumerate() {
        let mount = filesystem::mount("erofs", &devices.node(layer)?, [("ro", None)], 0)?;
        let path = format!("{LAYERS}/{}", index + 1);
        make_directory(&path)?;
        let target = std::ffi::CString::new(path.as_str()).unwrap_or_default();
        attach_at(&mount, &target).map_err(|e| guest(format!("cannot attach layer {path}"), e))?;
        lower.push(path);
    }
    if lower.is_empty() {
        let path = format!("{LAYERS}/empty");
        make_directory(&path)?;
        lower.push(path);
    }

    let upper = storage.writable.is_some() || !read_only;
    if let Some(disk) = &storage.writable {
        // The host hands out a finished file system: initialising its inode tables in the
        // background would only write zeros over zeros.
        let options = [("noinit_itable", None)];
        attach_writable(&filesystem::mount(
            "ext4",
            &devices.node(disk)?,
            options,
            0,
        )?)?;
    } else if upper {
        let tmpfs = filesystem::mount("tmpfs", "tmpfs", [("mode", Some("755"))], 0)?;
        attach_writable(&tmpfs)?;
    }
    let root = if !upper && storage.layers.len() == 1 {
        // overlayfs wants two layers or a writable one; a single layer is its own root.
        filesystem::mount(
            "erofs",
            &devices.node(&storage.layers[0])?,
            [("ro", None)],
            0,
        )?
    } else {
        let mut options: Vec<(&str, Option<&str>)> = lower
            .iter()
            .map(|path| ("lowerdir+", Some(path.as_str())))
            .collect();
        let extra = format!("{LAYERS}/none");
        if upper {
            options.push(("upperdir", Some("/writable/upper")));
            options.push(("workdir", Some("/writable/work")));
        } else if lower.len() == 1 {
            make_directory(&extra)?;
            options.push(("lowerdir+", Some(&extra)));
        }
        filesystem::mount("overlay", "overlay", options, 0)?
    };
    attach_at(&root, MERGED).map_err(|e| guest("cannot attach the merged root", e))?;
    Ok(Merged {
        on_disk: storage.writable.is_some(),
    })
}

fn attach_writable(root: &OwnedFd) -> Result<()> {
    for name in ["upper", "work"] {
        match mkdirat(root, name, DIRECTORY) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => {
                return Err(guest(
                    format!("cannot create {name} on the writable layer"),
                    e,
                ));
            }
        }
    }
    attach_at(root, WRITABLE).map_err(|e| guest("cannot attach the writable layer", e))
}

fn make_directory(path: &str) -> Result<()> {
    match mkdir(path, DIRECTORY) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(guest(format!("cannot create {path}"), e)),
    }
}

impl Merged {
    /// Unmounts the root and the writable layer; afterwards the disk is whole.
    pub fn take_apart(self) -> Result<()> {
        let root_is_free = umount2(MERGED, MntFlags::empty());
        if !self.on_disk {
            return Ok(());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let disk = open(WRITABLE, flags, Mode::empty())
            .map_err(|e| guest("cannot open the writable layer", e))?;
        syncfs(&disk).map_err(|e| guest("cannot write the writable layer to its disk", e))?;
        if root_is_free.is_ok() {
            drop(disk);
            match umount2(WRITABLE, MntFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(Errno::EBUSY) => return freeze(),
                Err(e) => return Err(guest("cannot unmount the writable layer", e)),
            }
        }
        freeze()
    }
}

/// Something still holds the file system: freezing it makes its disk whole all the same.
fn freeze() -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let disk = open(WRITABLE, flags, Mode::empty())
        .map_err(|e| guest("cannot open the writable layer", e))?;
    sys::system::freeze(disk.as_fd()).map_err(|e| guest("cannot freeze the writable layer", e))
}
