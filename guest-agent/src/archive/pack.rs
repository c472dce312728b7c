//! From files to an archive: owners, times, hard links and what the caller knows of extended
//! attributes, sorted by name.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use tar::{Builder, EntryType, Header};

/// The longest path and link target of a plain header; longer ones go into a PAX record.
const NAME_LEN: usize = 100;
/// The largest number of a seven-digit octal field.
const MAX_ID: u64 = 0o777_7777;
/// The largest size of an eleven-digit octal field.
const MAX_SIZE: u64 = 0o777_7777_7777;

/// PAX records of one entry.
pub type Records = Vec<(String, Vec<u8>)>;

/// Something to put into an archive.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// Its name; directories need no slash.
    pub name: &'a Path,
    /// What it is.
    pub kind: MemberKind<'a>,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes.
    pub records: Records,
}

/// What a member of an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind<'a> {
    /// A file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(&'a Path),
    /// Another name of this member.
    Link(&'a Path),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Writes an archive.
pub struct Packer<W: Write> {
    builder: Builder<BufWriter<W>>,
    /// First name of every file with several names.
    links: HashMap<(u64, u64), PathBuf>,
    attributes: fn(&Path) -> io::Result<Records>,
}

impl<W: Write> std::fmt::Debug for Packer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl<W: Write> Packer<W> {
    /// Begins an archive; `attributes` gives the records of a file's extended attributes.
    pub fn new(output: W, attributes: fn(&Path) -> io::Result<Records>) -> Self {
        Self {
            builder: Builder::new(BufWriter::with_capacity(256 << 10, output)),
            links: HashMap::new(),
            attributes,
        }
    }

    /// Adds the file at `path` as `name`, and what is in it when it is a directory.
    pub fn tree(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        // What is left of each directory; deep trees need no deep stack.
        let mut open = vec![vec![(path.to_owned(), name.to_owned())]];
        while let Some(names) = open.last_mut() {
            let Some((path, name)) = names.pop() else {
                open.pop();
                continue;
            };
            let Some(metadata) = gone_is_none(fs::symlink_metadata(&path))? else {
                continue;
            };
            self.append(&path, &name, &metadata)?;
            if metadata.is_dir()
                && let Some(children) = gone_is_none(list(&path, &name))?
            {
                open.push(children);
            }
        }
        Ok(())
    }

    /// Adds everything in the directory `root`, but not itself, under relative names.
    pub fn children(&mut self, root: &Path) -> io::Result<()> {
        for (path, name) in list(root, Path::new(""))?.into_iter().rev() {
            self.tree(&path, &name)?;
        }
        Ok(())
    }

    /// Adds the file at `path` alone.
    pub fn one(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        match gone_is_none(fs::symlink_metadata(path))? {
            Some(metadata) => self.append(path, name, &metadata),
            None => Ok(()),
        }
    }

    /// Adds an empty file that is nowhere, such as a whiteout.
    pub fn empty(&mut self, name: &Path) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_size(0);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let mut records = Records::new();
        if let Some(fields) = header.as_ustar_mut() {
            put(
                &mut fields.name,
                name.as_os_str().as_bytes(),
                "path",
                &mut records,
            );
        }
        self.finish_entry(header, &records, io::empty())
    }

    /// Writes the archive's end.
    pub fn finish(self) -> io::Result<()> {
        self.builder.into_inner()?.flush()
    }

    fn finish_entry(
        &mut self,
        mut header: Header,
        records: &Records,
        content: impl Read,
    ) -> io::Result<()> {
        let records = records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records)?;
        header.set_cksum();
        self.builder.append(&header, content)
    }

    /// Adds a member; `content` is a file's, padded or cut to its size.
    pub fn member(&mut self, member: Member<'_>, content: impl Read) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let mut records = member.records;
        let (kind, target, size) = match member.kind {
            MemberKind::File(size) => (EntryType::Regular, None, size),
            MemberKind::Directory => (EntryType::Directory, None, 0),
            MemberKind::Symlink(target) => (EntryType::Symlink, Some(target), 0),
            MemberKind::Link(target) => (EntryType::Link, Some(target), 0),
            MemberKind::Char(..) => (EntryType::Char, None, 0),
            MemberKind::Block(..) => (EntryType::Block, None, 0),
            MemberKind::Fifo => (EntryType::Fifo, None, 0),
        };
        header.set_entry_type(kind);
        if let MemberKind::Char(major, minor) | MemberKind::Block(major, minor) = member.kind {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        let mut path = member.name.as_os_str().as_bytes().to_vec();
        if kind == EntryType::Directory {
            path.push(b'/');
        }
        let target = target.map(|t| t.as_os_str().as_bytes()).unwrap_or_default();
        if let Some(fields) = header.as_ustar_mut() {
            put(&mut fields.name, &path, "path", &mut records);
            put(&mut fields.linkname, target, "linkpath", &mut records);
        }
        let (uid, gid) = (u64::from(member.uid), u64::from(member.gid));
        header.set_uid(number("uid", uid, MAX_ID, &mut records));
        header.set_gid(number("gid", gid, MAX_ID, &mut records));
        header.set_size(size);
        if size > MAX_SIZE {
            records.push(("size".to_owned(), size.to_string().into_bytes()));
        }
        header.set_mode(member.mode & 0o7777);
        if let Ok(time) = u64::try_from(member.mtime) {
            header.set_mtime(number("mtime", time, MAX_SIZE, &mut records));
        } else {
            header.set_mtime(0);
            records.push(("mtime".to_owned(), member.mtime.to_string().into_bytes()));
        }
        // The size is promised: a file that shrinks is padded, one that grows is cut.
        let content = content.chain(io::repeat(0)).take(size);
        self.finish_entry(header, &records, content)
    }

    fn append(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        let file_type = metadata.file_type();
        let mut content = None;
        let target;
        let first = if metadata.nlink() > 1 && !file_type.is_dir() {
            let id = (metadata.dev(), metadata.ino());
            let first = self.links.get(&id).cloned();
            if first.is_none() {
                self.links.insert(id, name.to_owned());
            }
            first
        } else {
            None
        };
        let device = || {
            let (major, minor) = (
                nix::sys::stat::major(metadata.rdev()),
                nix::sys::stat::minor(metadata.rdev()),
            );
            (major as u32, minor as u32)
        };
        let kind = if let Some(first) = &first {
            MemberKind::Link(first)
        } else if file_type.is_dir() {
            MemberKind::Directory
        } else if file_type.is_symlink() {
            target = fs::read_link(path)?;
            MemberKind::Symlink(&target)
        } else if file_type.is_file() {
            // Non-blocking and not through a link, should the container have swapped it.
            let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
            let opened = File::options().read(true).custom_flags(flags).open(path);
            let Some(file) = gone_is_none(opened)? else {
                return Ok(());
            };
            content = Some(file);
            MemberKind::File(metadata.size())
        } else if file_type.is_char_device() {
            let (major, minor) = device();
            MemberKind::Char(major, minor)
        } else if file_type.is_block_device() {
            let (major, minor) = device();
            MemberKind::Block(major, minor)
        } else if file_type.is_fifo() {
            MemberKind::Fifo
        } else {
            // Archives have no sockets.
            return Ok(());
        };
        let member = Member {
            name,
            kind,
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: metadata.mtime(),
            records: match kind {
                MemberKind::Link(_) => Records::new(),
                _ => (self.attributes)(path)?,
            },
        };
        match content {
            Some(file) => self.member(member, file),
            None => self.member(member, io::empty()),
        }
    }
}

/// The entries of a directory with their names in the archive, last first.
fn list(path: &Path, name: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut names = fs::read_dir(path)?
        .map(|entry| entry.map(|e| (e.path(), name.join(e.file_name()))))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable_by(|(_, a), (_, b)| b.as_os_str().as_bytes().cmp(a.as_os_str().as_bytes()));
    Ok(names)
}

/// Files may be deleted while they are listed.
fn gone_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The value for a field that holds up to `max`; a larger one goes into a record.
fn number(key: &str, value: u64, max: u64, records: &mut Records) -> u64 {
    if value > max {
        records.push((key.to_owned(), value.to_string().into_bytes()));
    }
    value.min(max)
}

/// Puts a name into its field, or, where it is too long or no ASCII, into a record too.
fn put(field: &mut [u8; NAME_LEN], value: &[u8], key: &str, records: &mut Records) {
    let len = value.len().min(NAME_LEN);
    field[..len].copy_from_slice(&value[..len]);
    if value.len() > NAME_LEN || !value.is_ascii() {
        records.push((key.to_owned(), value.to_vec()));
    }
}
