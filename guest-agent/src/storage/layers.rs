//! EROFS layers and the writable layer, stacked into one root.
//!
//! Purpose: mount each layer read-only, put overlayfs over them with the writable disk (or
//! a tmpfs) on top, and take it all apart again so that the disk is whole.

use std::os::fd::{AsFd, OwnedFd};

use guest_agent::protocol::Storage;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{mkdir, syncfs};

use super::devices::Devices;
use super::filesystem::NewMount;
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
    /// The read-only layers' directories, the topmost first.
    lower: Vec<String>,
    /// How many writable layers were sealed.
    sealed: usize,
    /// Whether the writable layer need not survive.
    transient: bool,
}

/// The writable directory of a stack.
#[derive(Debug, Clone, Copy)]
pub struct Upper {
    /// How many were sealed before it.
    number: usize,
    /// Whether what is written there need not survive.
    transient: bool,
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
        let path = format!("{LAYERS}/{}", index + 1);
        make_directory(&path)?;
        let target = std::ffi::CString::new(path.as_str()).unwrap_or_default();
        NewMount::image(&devices.node(layer)?).at(&target)?;
        lower.push(path);
    }
    if lower.is_empty() {
        let path = format!("{LAYERS}/empty");
        make_directory(&path)?;
        lower.push(path);
    }

    let upper = storage.writable.is_some() || !read_only;
    if let Some(disk) = &storage.writable {
        let disk = NewMount {
            fstype: "ext4",
            source: &devices.node(disk)?,
            // The host hands out a finished file system: initialising its inode tables in the
            // background would only write zeros over zeros.
            options: &[("noinit_itable", None)],
            attributes: 0,
        };
        attach_writable(disk)?;
    } else if upper {
        attach_writable(NewMount {
            fstype: "tmpfs",
            source: "tmpfs",
            options: &[("mode", Some("755"))],
            attributes: 0,
        })?;
    }
    match storage.layers.as_slice() {
        // overlayfs wants two layers or a writable one; a single layer is its own root.
        [layer] if !upper => NewMount::image(&devices.node(layer)?).at(MERGED)?,
        _ => {
            let first = Upper {
                number: 0,
                transient: storage.transient,
            };
            let root = overlay(&lower, upper.then_some(first))?;
            attach_at(&root, MERGED).map_err(|e| guest("cannot attach the merged root", e))?;
        }
    }
    Ok(Merged {
        on_disk: storage.writable.is_some(),
        lower,
        sealed: 0,
        transient: storage.transient,
    })
}

/// Stacks directories, the topmost first, for reading or below a writable one.
pub fn overlay(lower: &[String], writable: Option<Upper>) -> Result<OwnedFd> {
    let mut options: Vec<(&str, Option<&str>)> = lower
        .iter()
        .map(|path| ("lowerdir+", Some(path.as_str())))
        .collect();
    let (upper, work) = match writable {
        Some(Upper { number, .. }) => (upper_directory(number), work_directory(number)),
        None => (format!("{LAYERS}/none"), String::new()),
    };
    if let Some(top) = writable {
        options.push(("upperdir", Some(&upper)));
        options.push(("workdir", Some(&work)));
        if top.transient {
            // overlayfs would not mount it a second time, and nobody does.
            options.push(("volatile", None));
        }
    } else if lower.len() == 1 {
        // overlayfs wants two.
        make_directory(&upper)?;
        options.push(("lowerdir+", Some(&upper)));
    }
    Ok(filesystem::mount("overlay", "overlay", options, 0)?)
}

/// The directory of a writable layer.
fn upper_directory(number: usize) -> String {
    match number {
        0 => "/writable/upper".to_owned(),
        number => format!("/writable/upper.{number}"),
    }
}

fn work_directory(number: usize) -> String {
    match number {
        0 => "/writable/work".to_owned(),
        number => format!("/writable/work.{number}"),
    }
}

fn attach_writable(disk: NewMount<'_>) -> Result<()> {
    disk.at(WRITABLE)?;
    for path in [upper_directory(0), work_directory(0)] {
        make_directory(&path)?;
    }
    Ok(())
}

fn make_directory(path: &str) -> Result<()> {
    match mkdir(path, DIRECTORY) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(guest(format!("cannot create {path}"), e)),
    }
}

impl Merged {
    /// The read-only layers' directories, the topmost first.
    pub fn lower(&self) -> &[String] {
        &self.lower
    }

    /// The directory of the writable layer.
    pub fn upper(&self) -> String {
        upper_directory(self.sealed)
    }

    /// Makes the writable layer one to read only and begins another above it.
    pub fn seal(&mut self) -> Result<()> {
        if self.lower.len() >= MAX_LAYERS {
            return Err(invalid(format!(
                "too many layers, overlayfs stacks {MAX_LAYERS}"
            )));
        }
        // Whatever still holds the old root can only read what nothing changes any more.
        umount2(MERGED, MntFlags::MNT_DETACH)
            .map_err(|e| guest("cannot unmount the merged root", e))?;
        self.lower.insert(0, self.upper());
        self.sealed += 1;
        make_directory(&upper_directory(self.sealed))?;
        make_directory(&work_directory(self.sealed))?;
        let top = Upper {
            number: self.sealed,
            transient: self.transient,
        };
        let root = overlay(&self.lower, Some(top))?;
        attach_at(&root, MERGED).map_err(|e| guest("cannot attach the merged root", e))
    }

    /// Takes away a root that nothing was ever to be kept of.
    pub fn discard(self) -> Result<()> {
        for path in [MERGED, WRITABLE] {
            umount2(path, MntFlags::MNT_DETACH)
                .map_err(|e| guest("cannot take the root away", e))?;
        }
        Ok(())
    }

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
