//! The agent's own work for the host, in a child of its own.
//!
//! Purpose: files of the container as archives and back, what its writable layer changes, and
//! how it is. Whatever the container does to its files can hold up or break this child only.

mod amend;
mod numbers;
mod upper;

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use guest_agent::archive::{Owner, Packer, Records, Unpack, unpack};
use guest_agent::protocol::{PathStat, Task, Work};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, chroot};
use serde::Serialize;

use super::launch::Streams;
use super::mounts;
use super::relay;
use super::report::Reporter;
use super::root::Root;
use super::spawn::Container;
use crate::error::{Result, guest, invalid, reason};
use crate::storage::layers::Merged;
use crate::storage::{MERGED, TREES};
use crate::sys::io::{adopt, replace_standard};
use crate::sys::{task, xattr};

/// What work finds in the agent besides the container's files.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// The container's control group.
    pub cgroup: &'a Path,
    /// What a relay takes its connection from.
    pub listener: Option<&'a UnixListener>,
}

/// Becomes the working child.
pub fn run(
    work: &Work,
    container: Option<&Container>,
    merged: &Merged,
    beside: Beside<'_>,
    streams: Streams,
    reporter: &Reporter,
) -> Result<Infallible> {
    let Streams::Pipes {
        stdin,
        stdout,
        stderr,
    } = streams
    else {
        return Err(invalid("this work needs pipes"));
    };
    enter(work, container, merged)?;
    let failed = |e| guest("cannot set up the standard streams", reason(e));
    if let Some(stdin) = &stdin {
        replace_standard(stdin.as_fd(), 0).map_err(failed)?;
    }
    replace_standard(stdout.as_fd(), 1).map_err(failed)?;
    replace_standard(stderr.as_fd(), 2).map_err(failed)?;
    umask(Mode::empty());
    reporter.ready(&[], None, None).map_err(failed)?;
    // Closes the report channel, which is what an exec does elsewhere, and lets go of the
    // agent's connections, which must end when the agent ends them.
    let mut kept = 3;
    if let Some(listener) = beside.listener {
        replace_standard(listener.as_fd(), kept).map_err(failed)?;
        kept += 1;
    }
    task::close_from(kept).map_err(failed)?;
    let output = File::from(adopt(1).map_err(failed)?);
    let done = match &work.task {
        Task::Extract { directory, owners } => extract(directory, *owners),
        Task::Export => export(output),
        Task::Stat { path, follow } => stat(path, *follow).and_then(|s| say(output, &s)),
        Task::Archive { path, follow, name } => archive(path, *follow, name, output),
        Task::Changes => upper::print_changes(&merged.upper(), output),
        Task::Layer(how) => upper::layer(&merged.upper(), how, output),
        Task::Fill { name } => fill(name),
        Task::Relay { .. } => match (adopt(3), adopt(0)) {
            (Ok(listener), Ok(input)) => relay::carry(listener, input, output.into()),
            (Err(error), _) | (_, Err(error)) => Err(error.into()),
        },
        Task::Processes => numbers::processes(beside.cgroup, output),
        Task::Usage => numbers::usage(beside.cgroup).and_then(|usage| say(output, &usage)),
        Task::Amend(files) => files.iter().try_for_each(amend::file),
    };
    task::exit_now(match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    })
}

/// Goes where the task finds its files.
fn enter(work: &Work, container: Option<&Container>, merged: &Merged) -> Result<()> {
    let failed = |e| guest("cannot enter the container's files", reason(e));
    match &work.task {
        Task::Processes | Task::Usage | Task::Fill { .. } | Task::Relay { .. } => return Ok(()),
        Task::Changes | Task::Layer(_) => return upper::stack_layers(merged.lower()),
        // Without what is mounted in the container.
        Task::Export => chroot(MERGED).map_err(failed)?,
        Task::Stat { .. } | Task::Archive { .. } | Task::Extract { .. } | Task::Amend(_) => {
            match container {
                Some(container) => {
                    setns(&container.init.pidfd, CloneFlags::CLONE_NEWNS).map_err(failed)?;
                }
                None => {
                    unshare(CloneFlags::CLONE_NEWNS).map_err(failed)?;
                    let root = Root::open(MERGED).map_err(failed)?;
                    mounts::shares(&work.storage.shares, &root)?;
                    chroot(MERGED).map_err(failed)?;
                }
            }
        }
    }
    chdir("/").map_err(failed)
}

fn say(mut output: impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    output.write_all(&line)
}

fn export(output: File) -> io::Result<()> {
    let mut packer = Packer::new(output, attributes);
    packer.children(Path::new("/"))?;
    packer.finish()
}

/// A path of the container with a leading slash.
fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

fn stat(path: &str, follow: bool) -> io::Result<Option<PathStat>> {
    let mut path = absolute(path);
    if follow {
        path = match fs::canonicalize(&path) {
            Ok(path) => path,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
    }
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let link_target = match metadata.is_symlink() {
        true => fs::read_link(&path)?.to_string_lossy().into_owned(),
        false => String::new(),
    };
    let name = path.file_name().unwrap_or_else(|| "/".as_ref());
    Ok(Some(PathStat {
        name: name.to_string_lossy().into_owned(),
        size: metadata.len(),
        mode: metadata.mode(),
        mtime: metadata.mtime(),
        link_target,
    }))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn archive(path: &str, follow: bool, name: &str, output: File) -> io::Result<()> {
    let mut path = absolute(path);
    if follow {
        path = fs::canonicalize(path)?;
    }
    let mut packer = Packer::new(output, attributes);
    packer.tree(&path, Path::new(name))?;
    packer.finish()
}

/// Makes a tree beside the container's files.
fn fill(name: &str) -> io::Result<()> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(io::Error::other(
            "a tree's name has letters and digits only",
        ));
    }
    let directory = Path::new(TREES).join(name);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&directory)?;
    extract_into(&File::open(directory)?, true)
}

fn extract(directory: &str, owners: bool) -> io::Result<()> {
    extract_into(&File::open(absolute(directory))?, owners)
}

fn extract_into(directory: &File, owners: bool) -> io::Result<()> {
    let options = Unpack {
        owner: match owners {
            true => Owner::Archive,
            false => Owner::Fixed(0, 0),
        },
        set_ids: true,
        devices: true,
    };
    unpack(directory.as_fd(), io::stdin().lock(), options)
}

/// The extended attributes of a file, but for overlayfs' own.
fn attributes(path: &Path) -> io::Result<Records> {
    let mut records = Records::new();
    let path = CString::new(path.as_os_str().as_bytes())?;
    for name in xattr::list(&path)? {
        let Ok(text) = name.to_str() else { continue };
        if text.starts_with("trusted.overlay.") {
            continue;
        }
        // An attribute can vanish, or be closed to us, between the two calls.
        if let Ok(value) = xattr::get(&path, &name) {
            records.push((format!("SCHILY.xattr.{text}"), value));
        }
    }
    records.sort();
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_attributes_travel_as_pax_records() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("f"), b"x").unwrap();
        let path = CString::new(root.join("f").to_str().unwrap()).unwrap();
        xattr::set(&path, c"user.hull", b"a\0b").unwrap();
        let mut bytes = Vec::new();
        let mut packer = Packer::new(&mut bytes, attributes);
        packer.children(&root).unwrap();
        packer.finish().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let extensions = entry.pax_extensions().unwrap().unwrap();
        let record = extensions
            .map(|e| e.unwrap())
            .find(|e| e.key() == Ok("SCHILY.xattr.user.hull"));
        assert_eq!(record.unwrap().value_bytes(), b"a\0b");
    }
}
