//! The merged root as a tar archive.
//!
//! Purpose: stream every file of the root, sorted, with owners, extended attributes and
//! hard links, in a child of its own that is confined to the root; the archive is what the
//! agent reads from its standard output.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{chdir, chroot};
use tar::{Builder, EntryType, Header};

use super::report::Reporter;
use crate::error::{Result, guest, reason};
use crate::storage::MERGED;
use crate::sys::io::{adopt, replace_standard};
use crate::sys::{task, xattr};

/// The longest path and link target of a plain header; longer ones go into a PAX record.
const NAME_LEN: usize = 100;
/// The largest number of a seven-digit octal field.
const MAX_ID: u64 = 0o777_7777;
/// The largest size of an eleven-digit octal field.
const MAX_SIZE: u64 = 0o777_7777_7777;

/// Becomes the exporting child: confined to the merged root, archive to `output`.
pub fn run(output: OwnedFd, errors: OwnedFd, reporter: &Reporter) -> Result<Infallible> {
    let failed = |e| guest("cannot enter the merged root", reason(e));
    chroot(MERGED).map_err(failed)?;
    chdir("/").map_err(failed)?;
    replace_standard(output.as_fd(), 1).map_err(failed)?;
    replace_standard(errors.as_fd(), 2).map_err(failed)?;
    reporter.ready(&[], None, None).map_err(failed)?;
    // Closes the report channel, which is what an exec does elsewhere, and lets go of the
    // agent's connections, which must end when the agent ends them.
    task::close_from(3).map_err(failed)?;
    let output = adopt(1).map_err(failed)?;
    let code = match write_archive(Path::new("/"), File::from(output)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("cannot export the root: {error}");
            1
        }
    };
    task::exit_now(code)
}

/// Writes the tree below `root` as an archive of relative paths.
pub fn write_archive(root: &Path, output: File) -> io::Result<()> {
    let mut archive = Archive {
        builder: Builder::new(BufWriter::with_capacity(256 << 10, output)),
        links: HashMap::new(),
    };
    // Directories still to be listed, as what is left of each; deep trees need no deep stack.
    let mut open = vec![list(root)?];
    while let Some(names) = open.last_mut() {
        let Some(path) = names.pop() else {
            open.pop();
            continue;
        };
        let name = path.strip_prefix(root).unwrap_or(&path);
        let Some(metadata) = gone_is_none(fs::symlink_metadata(&path))? else {
            continue;
        };
        archive.append(&path, name, &metadata)?;
        if metadata.is_dir()
            && let Some(children) = gone_is_none(list(&path))?
        {
            open.push(children);
        }
    }
    archive.builder.into_inner()?.flush()
}

/// The entries of a directory, last first.
fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = fs::read_dir(path)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable_by(|a, b| b.as_os_str().as_bytes().cmp(a.as_os_str().as_bytes()));
    Ok(names)
}

/// A running container deletes files while they are listed.
fn gone_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

struct Archive {
    builder: Builder<BufWriter<File>>,
    /// First path of every file with several names.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Archive {
    fn append(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        let mut header = Header::new_ustar();
        header.set_size(0);
        let mut target = None;
        let mut content = None;
        let first = if metadata.nlink() > 1 && !kind.is_dir() {
            let id = (metadata.dev(), metadata.ino());
            let first = self.links.get(&id).cloned();
            if first.is_none() {
                self.links.insert(id, name.to_owned());
            }
            first
        } else {
            None
        };
        if let Some(first) = first {
            header.set_entry_type(EntryType::Link);
            target = Some(first);
        } else if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
        } else if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            target = Some(fs::read_link(path)?);
        } else if kind.is_file() {
            // Non-blocking and not through a link, should the container have swapped it.
            let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
            let opened = File::options().read(true).custom_flags(flags).open(path);
            let Some(file) = gone_is_none(opened)? else {
                return Ok(());
            };
            header.set_entry_type(EntryType::Regular);
            content = Some(file);
        } else if kind.is_char_device() || kind.is_block_device() {
            let char = kind.is_char_device();
            header.set_entry_type(if char {
                EntryType::Char
            } else {
                EntryType::Block
            });
            header.set_device_major(nix::sys::stat::major(metadata.rdev()) as u32)?;
            header.set_device_minor(nix::sys::stat::minor(metadata.rdev()) as u32)?;
        } else if kind.is_fifo() {
            header.set_entry_type(EntryType::Fifo);
        } else {
            // Archives have no sockets.
            return Ok(());
        }
        let size = if content.is_some() {
            metadata.size()
        } else {
            0
        };
        let mut records = attributes(path, header.entry_type())?;
        fill(
            &mut header,
            name,
            target.as_deref(),
            metadata,
            size,
            &mut records,
        );
        let records = records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records)?;
        header.set_cksum();
        match content {
            // The size is promised: a file that shrinks is padded, one that grows is cut.
            Some(file) => self
                .builder
                .append(&header, file.chain(io::repeat(0)).take(size)),
            None => self.builder.append(&header, io::empty()),
        }
    }
}

type Records = Vec<(String, Vec<u8>)>;

fn fill(
    header: &mut Header,
    name: &Path,
    target: Option<&Path>,
    metadata: &Metadata,
    size: u64,
    records: &mut Records,
) {
    let mut path = name.as_os_str().as_bytes().to_vec();
    if header.entry_type() == EntryType::Directory {
        path.push(b'/');
    }
    let (uid, gid) = (u64::from(metadata.uid()), u64::from(metadata.gid()));
    let target = target.map(|t| t.as_os_str().as_bytes()).unwrap_or_default();
    if let Some(fields) = header.as_ustar_mut() {
        put(&mut fields.name, &path, "path", records);
        put(&mut fields.linkname, target, "linkpath", records);
    }
    header.set_uid(number("uid", uid, MAX_ID, records));
    header.set_gid(number("gid", gid, MAX_ID, records));
    header.set_size(size);
    if size > MAX_SIZE {
        records.push(("size".to_owned(), size.to_string().into_bytes()));
    }
    header.set_mode(metadata.mode() & 0o7777);
    if let Ok(time) = u64::try_from(metadata.mtime()) {
        header.set_mtime(number("mtime", time, MAX_SIZE, records));
    } else {
        header.set_mtime(0);
        records.push((
            "mtime".to_owned(),
            metadata.mtime().to_string().into_bytes(),
        ));
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

fn attributes(path: &Path, kind: EntryType) -> io::Result<Records> {
    let mut records = Records::new();
    if kind == EntryType::Link {
        return Ok(records);
    }
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
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_tree_comes_back_from_its_archive() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let long = "n".repeat(255);
        fs::create_dir_all(root.join("a/deep").join(&long)).unwrap();
        fs::write(root.join("a/deep").join(&long).join("file"), b"content").unwrap();
        fs::hard_link(
            root.join("a/deep").join(&long).join("file"),
            root.join("z-link"),
        )
        .unwrap();
        symlink("x".repeat(200), root.join("link")).unwrap();
        fs::write(root.join("ümlaut"), b"").unwrap();
        fs::set_permissions(root.join("ümlaut"), fs::Permissions::from_mode(0o4751)).unwrap();
        nix::unistd::mkfifo(
            &root.join("fifo"),
            nix::sys::stat::Mode::from_bits_truncate(0o600),
        )
        .unwrap();
        let sparse = File::create(root.join("sparse")).unwrap();
        sparse.set_len(3 << 20).unwrap();

        let file = dir.path().join("archive");
        write_archive(&root, File::create(&file).unwrap()).unwrap();
        let mut archive = tar::Archive::new(File::open(&file).unwrap());
        let mut seen = BTreeMap::new();
        let mut order = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry
                .path()
                .unwrap()
                .to_str()
                .unwrap()
                .trim_end_matches('/')
                .to_owned();
            let link = entry
                .link_name()
                .unwrap()
                .map(|l| l.to_str().unwrap().to_owned());
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            order.push(path.clone());
            let header = entry.header();
            seen.insert(
                path,
                (
                    header.entry_type(),
                    header.mode().unwrap(),
                    link,
                    content.len(),
                ),
            );
        }
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!(order, sorted);
        assert_eq!(seen.len(), 9);
        let deep = format!("a/deep/{long}/file");
        assert_eq!(seen[&deep].3, 7);
        assert_eq!(seen["z-link"].0, EntryType::Link);
        assert_eq!(seen["z-link"].2.as_deref(), Some(deep.as_str()));
        assert_eq!(seen["link"].2.as_ref().unwrap().len(), 200);
        assert_eq!(seen["ümlaut"].1, 0o4751);
        assert_eq!(seen["fifo"].0, EntryType::Fifo);
        assert_eq!(seen["sparse"].3, 3 << 20);
    }

    #[test]
    fn extended_attributes_travel_as_pax_records() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("f"), b"x").unwrap();
        let path = CString::new(root.join("f").to_str().unwrap()).unwrap();
        xattr::set(&path, c"user.hull", b"a\0b").unwrap();
        let file = dir.path().join("archive");
        write_archive(&root, File::create(&file).unwrap()).unwrap();
        let mut archive = tar::Archive::new(File::open(&file).unwrap());
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let extensions = entry.pax_extensions().unwrap().unwrap();
        let record = extensions
            .map(|e| e.unwrap())
            .find(|e| e.key() == Ok("SCHILY.xattr.user.hull"));
        assert_eq!(record.unwrap().value_bytes(), b"a\0b");
    }
}
