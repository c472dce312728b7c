//! The mounts of a container: virtual file systems, shares of the host, provided files.
//!
//! Purpose: perform all of them in the order that docker does, the shorter destination
//! first, each at a place that was resolved inside the root.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use guest_agent::parse::mount_options::{self, attr};
use guest_agent::protocol::runtime::Mount;
use guest_agent::protocol::{ProvidedFile, ProvidedSocket, Share, Start, Tree, TreeSource};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown};

use super::copy_up;
use super::relay::SOCKETS;
use super::root::{Kind, Root};
use crate::error::{Result, guest, invalid, reason};
use crate::storage::filesystem::NewMount;
use crate::storage::{TREES, filesystem};
use crate::sys::mount::{attach, bind, clone_tree, set_attributes};

/// Where provided files live until they are bound; the agent's tree only.
const FILES: &str = "/files";

/// What later steps need of the mounts.
#[derive(Debug, Default)]
pub struct Mounted {
    /// The container's own devpts, where it has one at `/dev/pts`.
    pub devpts: Option<OwnedFd>,
}

enum Source<'a> {
    Virtual(&'a Mount),
    Share(&'a Share),
    Tree(&'a Tree),
    File(usize, &'a ProvidedFile),
    Socket(&'a ProvidedSocket),
}

/// Mounts everything that `start` names below `root`.
pub fn perform(start: &Start, root: &Root) -> Result<Mounted> {
    let mut all: Vec<(PathBuf, Source<'_>)> = Vec::new();
    for mount in &start.spec.mounts {
        all.push((mount.destination.clone(), Source::Virtual(mount)));
    }
    for share in &start.storage.shares {
        all.push((PathBuf::from(&share.destination), Source::Share(share)));
    }
    for tree in &start.storage.trees {
        all.push((PathBuf::from(&tree.destination), Source::Tree(tree)));
    }
    for (index, file) in start.files.iter().enumerate() {
        all.push((PathBuf::from(&file.path), Source::File(index, file)));
    }
    for socket in &start.sockets {
        all.push((PathBuf::from(&socket.path), Source::Socket(socket)));
    }
    for (destination, _) in &all {
        if !destination.is_absolute() {
            let path = destination.display();
            return Err(invalid(format!(
                "mount destination {path} is not an absolute path"
            )));
        }
    }
    all.sort_by_key(|(destination, _)| depth(destination));

    let mut mounted = Mounted::default();
    let mut tags = BTreeMap::new();
    write_files(&start.files)?;
    for (destination, source) in &all {
        match source {
            Source::Virtual(mount) => {
                virtual_mount(mount, root)?;
                if destination == Path::new("/dev/pts") {
                    let devpts = root.lookup(destination);
                    let devpts = devpts.map_err(|e| guest("cannot open /dev/pts", reason(e)))?;
                    mounted.devpts = Some(devpts);
                }
            }
            Source::Share(share) => share_mount(share, root, &mut tags)?,
            Source::Tree(tree) => tree_mount(tree, root)?,
            Source::File(index, file) => {
                let (target, _) = root.ensure(Path::new(&file.path), Kind::File)?;
                bind(&provided(*index), target.as_fd())
                    .map_err(|e| guest(format!("cannot bind-mount {}", file.path), reason(e)))?;
            }
            Source::Socket(socket) => {
                let missing =
                    |e| guest(format!("cannot find the socket {}", socket.name), reason(e));
                let sockets = Root::open(SOCKETS).map_err(missing)?;
                let source = sockets.lookup(Path::new(&socket.name)).map_err(missing)?;
                let tree = clone(&source, false, &socket.path)?;
                place(&tree, root, Path::new(&socket.path), Kind::File)?;
            }
        }
    }
    Ok(mounted)
}

/// Mounts shares of the host alone.
pub fn shares(shares: &[Share], root: &Root) -> Result<()> {
    let mut shares: Vec<&Share> = shares.iter().collect();
    shares.sort_by_key(|share| depth(Path::new(&share.destination)));
    let mut tags = BTreeMap::new();
    for share in shares {
        share_mount(share, root, &mut tags)?;
    }
    Ok(())
}

fn depth(path: &Path) -> usize {
    path.components()
        .filter(|c| matches!(c, Component::Normal(_)))
        .count()
}

fn clone(source: &OwnedFd, recursive: bool, what: &str) -> Result<OwnedFd> {
    clone_tree(source.as_fd(), recursive)
        .map_err(|e| guest(format!("cannot bind-mount {what}"), reason(e)))
}

/// Attaches `tree` at `destination`, which is made when missing.
fn place(tree: &OwnedFd, root: &Root, destination: &Path, kind: Kind) -> Result<()> {
    let (target, _) = root.ensure(destination, kind)?;
    attach(tree, target.as_fd()).map_err(|e| {
        guest(
            format!("cannot mount on {}", destination.display()),
            reason(e),
        )
    })
}

fn virtual_mount(mount: &Mount, root: &Root) -> Result<()> {
    let destination = &mount.destination;
    let options = mount_options::parse(&mount.options);
    let (target, existed) = root.ensure(destination, Kind::Directory)?;
    let mode;
    let mut data: Vec<(&str, Option<&str>)> = options
        .data
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_deref()))
        .collect();
    let fstype = match mount.kind.as_deref() {
        Some("cgroup" | "cgroup2") => "cgroup2",
        Some("tmpfs") => {
            // A tmpfs over a directory of the image looks like that directory.
            if existed && options.value("mode").is_none() {
                let found = fstat(&target).map_err(|e| guest("cannot stat", reason(e)))?;
                mode = format!("{:o}", found.st_mode & 0o7777);
                data.push(("mode", Some(&mode)));
            }
            "tmpfs"
        }
        Some(known @ ("proc" | "sysfs" | "devpts" | "mqueue")) => known,
        other => {
            let (kind, path) = (other.unwrap_or("none"), destination.display());
            return Err(invalid(format!(
                "mount type {kind} at {path} is not supported"
            )));
        }
    };
    let new = NewMount {
        fstype,
        source: mount.source.as_deref().unwrap_or(fstype),
        options: &data,
        attributes: options.attributes,
    };
    new.on(target.as_fd())?;
    if let Some(propagation) = options.propagation {
        let failed = |e| {
            let path = destination.display();
            guest(format!("cannot set propagation of {path}"), reason(e))
        };
        // The mount that is now there.
        let mounted = root.lookup(destination).map_err(failed)?;
        set_attributes(mounted.as_fd(), 0, propagation.flag, propagation.recursive)
            .map_err(failed)?;
    }
    Ok(())
}

fn share_mount(share: &Share, root: &Root, tags: &mut BTreeMap<String, Root>) -> Result<()> {
    if !tags.contains_key(&share.tag) {
        let fd = filesystem::mount("virtiofs", &share.tag, [], 0)?;
        tags.insert(share.tag.clone(), Root::from_fd(fd));
    }
    let Some(whole) = tags.get(&share.tag) else {
        return Ok(());
    };
    let subpath = share.subpath.as_deref().unwrap_or(".");
    let source = whole.lookup(Path::new(subpath)).map_err(|e| {
        guest(
            format!("cannot find {subpath} in share {}", share.tag),
            reason(e),
        )
    })?;
    let mode = fstat(&source)
        .map_err(|e| guest("cannot stat a share", reason(e)))?
        .st_mode;
    let directory = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
    let kind = if directory {
        Kind::Directory
    } else {
        Kind::File
    };
    if share.copy_up && directory {
        copy_up::fill(root, Path::new(&share.destination), &source)?;
    }
    if let Some(from) = share.fill.as_ref().filter(|_| directory) {
        let (whole, subpath) = brought(from)?;
        copy_up::fill(&whole, subpath, &source)?;
    }
    let tree = clone(&source, false, &share.destination)?;
    if share.read_only {
        set_attributes(tree.as_fd(), attr::RDONLY, 0, false)
            .map_err(|e| guest("cannot make a share read-only", reason(e)))?;
    }
    place(&tree, root, Path::new(&share.destination), kind)
}

/// A tree that the host brought, and what of it is meant.
fn brought(source: &TreeSource) -> Result<(Root, &Path)> {
    let path = CString::new(format!("{TREES}/{}", source.name)).unwrap_or_default();
    let whole = Root::open(&path)
        .map_err(|e| guest(format!("cannot find the tree {}", source.name), reason(e)))?;
    let subpath = match source.subpath.trim_start_matches('/') {
        "" => ".",
        path => path,
    };
    Ok((whole, Path::new(subpath)))
}

/// Binds a tree that the host brought.
fn tree_mount(tree: &Tree, root: &Root) -> Result<()> {
    let missing = |e| {
        guest(
            format!("cannot find {} to mount", tree.source.subpath),
            reason(e),
        )
    };
    let (whole, subpath) = brought(&tree.source)?;
    let source = whole.lookup(subpath).map_err(missing)?;
    let mode = fstat(&source).map_err(missing)?.st_mode;
    let directory = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
    let mounted = clone(&source, false, &tree.destination)?;
    if tree.read_only {
        set_attributes(mounted.as_fd(), attr::RDONLY, 0, false)
            .map_err(|e| guest("cannot make a mount read-only", reason(e)))?;
    }
    let kind = if directory {
        Kind::Directory
    } else {
        Kind::File
    };
    place(&mounted, root, Path::new(&tree.destination), kind)
}

/// Where a provided file is until it is bound.
fn provided(index: usize) -> PathBuf {
    PathBuf::from(format!("{FILES}/{index}"))
}

/// Writes the provided files into a tmpfs of their own, named by their index.
fn write_files(files: &[ProvidedFile]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let place = NewMount {
        fstype: "tmpfs",
        source: "tmpfs",
        options: &[("mode", Some("755"))],
        attributes: 0,
    };
    place.at(&CString::new(FILES).unwrap_or_default())?;
    for (index, file) in files.iter().enumerate() {
        let failed = |e: std::io::Error| guest(format!("cannot write {}", file.path), e);
        let mut written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(provided(index))
            .map_err(failed)?;
        if (file.uid, file.gid) != (0, 0) {
            let (owner, group) = (Uid::from_raw(file.uid), Gid::from_raw(file.gid));
            fchown(&written, Some(owner), Some(group)).map_err(|e| failed(e.into()))?;
        }
        // Changing the owner would take some of these bits away.
        let mode = Mode::from_bits_truncate(file.mode & 0o7777);
        fchmod(&written, mode).map_err(|e| failed(e.into()))?;
        written.write_all(&file.content).map_err(failed)?;
    }
    Ok(())
}
