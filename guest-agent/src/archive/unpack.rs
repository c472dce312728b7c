//! From an archive to files below one directory.
//!
//! Every name is walked from that directory's descriptor, one component at a time, without
//! following links: neither `..`, nor a link that the archive made, nor one that somebody puts
//! in the way meanwhile leads elsewhere.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, makedev, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use tar::{Entry, EntryType};

use super::Numbers;

/// Whose the files are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// As the archive says.
    Archive,
    /// Everything belongs to this user and group.
    Fixed(u32, u32),
    /// Whoever unpacks; nothing is changed.
    Unpacker,
}

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy)]
pub struct Unpack {
    /// Whose the files are.
    pub owner: Owner,
    /// Keep set-user-id and set-group-id bits.
    pub set_ids: bool,
    /// Make devices; otherwise they are left out.
    pub devices: bool,
}

/// A file's kind in `st_mode`.
const KIND: u32 = SFlag::S_IFMT.bits();

const NOFOLLOW: AtFlags = AtFlags::AT_SYMLINK_NOFOLLOW;

/// A directory's mode and time, set when everything is in it.
struct Late {
    mode: Mode,
    mtime: i64,
}

struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    options: Unpack,
    directories: BTreeMap<Vec<OsString>, Late>,
}

/// Unpacks `input` into the directory `root`. What is there is replaced, but never a directory
/// by another kind of file or the other way round.
pub fn unpack(root: BorrowedFd<'_>, input: impl Read, options: Unpack) -> io::Result<()> {
    let mut unpacker = Unpacker {
        root,
        options,
        directories: BTreeMap::new(),
    };
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries()? {
        unpacker.entry(&mut entry?)?;
    }
    // To the end, so that whoever sends it can finish.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    unpacker.finish()
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<()> {
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("{shown}: {error}"));
        let path = components(&entry.path_bytes()).map_err(failed)?;
        self.place(entry, &path).map_err(failed)
    }

    fn place<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &[OsString]) -> io::Result<()> {
        let kind = entry.header().entry_type();
        let numbers = Numbers::of(entry.header())?;
        let mut bits = numbers.mode;
        if !self.options.set_ids {
            bits &= !0o6000;
        }
        let mode = Mode::from_bits_truncate(bits);
        let mtime = i64::try_from(numbers.mtime).unwrap_or(0);
        let Some((name, parents)) = path.split_last() else {
            // The directory itself.
            return Ok(());
        };
        let directory = self.walk(parents)?;
        let at = directory.as_fd();
        if kind == EntryType::Directory {
            match kind_of(at, name)? {
                Some(SFlag::S_IFDIR) => {}
                Some(_) => return Err(other("cannot overwrite non-directory with directory")),
                None => mkdirat(at, name.as_os_str(), Mode::S_IRWXU)?,
            }
            self.own(at, name, entry)?;
            self.directories.insert(path.to_vec(), Late { mode, mtime });
            return Ok(());
        }
        if kind_of(at, name)? == Some(SFlag::S_IFDIR) {
            return Err(other("cannot overwrite directory with non-directory"));
        }
        if kind == EntryType::Link {
            return self.link(entry, at, name);
        }
        remove(at, name)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlag::O_WRONLY
                    | OFlag::O_CREAT
                    | OFlag::O_EXCL
                    | OFlag::O_NOFOLLOW
                    | OFlag::O_CLOEXEC;
                let file = openat(at, name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
                let mut file = File::from(file);
                io::copy(entry, &mut file)?;
                self.own(at, name, entry)?;
                fchmod(&file, mode)?;
            }
            EntryType::Symlink => {
                let target = entry
                    .link_name_bytes()
                    .ok_or_else(|| other("a symbolic link without a target"))?;
                symlinkat(OsStr::from_bytes(&target), at, name.as_os_str())?;
                self.own(at, name, entry)?;
            }
            EntryType::Fifo => {
                mknodat(at, name.as_os_str(), SFlag::S_IFIFO, mode, 0)?;
                self.own(at, name, entry)?;
            }
            EntryType::Char | EntryType::Block if self.options.devices => {
                let major = entry.header().device_major()?.unwrap_or(0);
                let minor = entry.header().device_minor()?.unwrap_or(0);
                let kind = if kind == EntryType::Char {
                    SFlag::S_IFCHR
                } else {
                    SFlag::S_IFBLK
                };
                let device = makedev(major.into(), minor.into());
                mknodat(at, name.as_os_str(), kind, mode, device)?;
                self.own(at, name, entry)?;
                fchmodat(at, name.as_os_str(), mode, FchmodatFlags::NoFollowSymlink)?;
            }
            EntryType::Char | EntryType::Block => return Ok(()),
            other_kind => return Err(other(format!("unknown kind of entry {other_kind:?}"))),
        }
        Ok(set_time(at, name, mtime)?)
    }

    /// A further name of a file that this archive, or the directory, has already.
    fn link<R: Read>(
        &self,
        entry: &Entry<'_, R>,
        at: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<()> {
        let target = entry
            .link_name_bytes()
            .ok_or_else(|| other("a hard link without a target"))?;
        let target = components(&target)?;
        let (last, parents) = target
            .split_last()
            .ok_or_else(|| other("a hard link to the directory itself"))?;
        let from = self.walk(parents)?;
        let same = fstatat(&from, last.as_os_str(), NOFOLLOW)?;
        if let Ok(there) = fstatat(at, name, NOFOLLOW)
            && (there.st_dev, there.st_ino) == (same.st_dev, same.st_ino)
        {
            return Ok(());
        }
        remove(at, name)?;
        Ok(linkat(&from, last.as_os_str(), at, name, AtFlags::empty())?)
    }

    /// The directory that `path` leads to; what is missing is made.
    fn walk(&self, path: &[OsString]) -> io::Result<OwnedFd> {
        let mut current = self.root.try_clone_to_owned()?;
        for name in path {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let open = || openat(&current, name.as_os_str(), flags, Mode::empty());
            current = match open() {
                Err(Errno::ENOENT) => {
                    mkdirat(&current, name.as_os_str(), Mode::from_bits_truncate(0o755))?;
                    open()?
                }
                opened => opened?,
            };
        }
        Ok(current)
    }

    fn own<R: Read>(
        &self,
        at: BorrowedFd<'_>,
        name: &OsStr,
        entry: &Entry<'_, R>,
    ) -> io::Result<()> {
        let id = |number: u64| u32::try_from(number).map_err(io::Error::other);
        let (uid, gid) = match self.options.owner {
            Owner::Unpacker => return Ok(()),
            Owner::Fixed(uid, gid) => (uid, gid),
            Owner::Archive => {
                let numbers = Numbers::of(entry.header())?;
                (id(numbers.uid)?, id(numbers.gid)?)
            }
        };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(fchownat(at, name, Some(uid), Some(gid), NOFOLLOW)?)
    }

    /// Modes and times of directories, the deepest first.
    fn finish(self) -> io::Result<()> {
        for (path, late) in self.directories.iter().rev() {
            let Some((name, parents)) = path.split_last() else {
                continue;
            };
            let directory = self.walk(parents)?;
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let own = openat(&directory, name.as_os_str(), flags, Mode::empty())?;
            fchmod(&own, late.mode)?;
            set_time(directory.as_fd(), name, late.mtime)?;
        }
        Ok(())
    }
}

fn set_time(at: BorrowedFd<'_>, name: &OsStr, mtime: i64) -> nix::Result<()> {
    let time = TimeSpec::new(mtime, 0);
    utimensat(at, name, &time, &time, UtimensatFlags::NoFollowSymlink)
}

fn kind_of(at: BorrowedFd<'_>, name: &OsStr) -> nix::Result<Option<SFlag>> {
    match fstatat(at, name, NOFOLLOW) {
        Ok(found) => Ok(Some(SFlag::from_bits_truncate(found.st_mode & KIND))),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn remove(at: BorrowedFd<'_>, name: &OsStr) -> nix::Result<()> {
    match unlinkat(at, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// The names in a path; `..` is refused, a leading slash means nothing.
fn components(path: &[u8]) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(other("the name leads out of the directory")),
            name if name.contains(&0) => return Err(other("the name contains a zero byte")),
            name => names.push(OsString::from_vec(name.to_vec())),
        }
    }
    Ok(names)
}

fn other(message: impl Into<String>) -> io::Error {
    io::Error::other(message.into())
}
