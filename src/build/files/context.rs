//! The build context: a directory of the host, without what `.dockerignore` leaves out.
//!
//! The context may come from anywhere. Its links are followed inside of it only, by name and
//! never by the kernel; what is neither file, directory nor link is no file for an image.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::fcntl::OFlag;

use super::{FileError, Ignore, Meta, Node, Tree, Where};
use crate::image::erofs::{FileType, MAX_NAME, Xattrs};

/// Why something of the context cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// It cannot be read.
    #[error("cannot read {path} of the build context: {source}")]
    Read {
        /// Which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is a device, a pipe or a socket.
    #[error(
        "{0} of the build context is a device, a pipe or a socket: only files, directories and links can be copied; name it in .dockerignore"
    )]
    Special(String),
    /// A name that is too long for an image.
    #[error("a name in the build context is too long for an image: {0}")]
    Name(String),
}

/// The directory to build from.
#[derive(Debug)]
pub struct Context {
    root: PathBuf,
    ignore: Ignore,
}

/// A path below the context's root, and whether all on the way is wanted.
#[derive(Debug, Clone, Default)]
pub struct Path {
    relative: Vec<u8>,
}

impl Path {
    fn child(&self, name: &[u8]) -> Self {
        let mut relative = self.relative.clone();
        if !relative.is_empty() {
            relative.push(b'/');
        }
        relative.extend_from_slice(name);
        Self { relative }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.relative).into_owned()
    }
}

impl Context {
    /// The files in `root` that `ignore` leaves.
    pub fn new(root: PathBuf, ignore: Ignore) -> Self {
        Self { root, ignore }
    }

    fn host(&self, path: &Path) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(&path.relative))
    }

    fn failed(path: &Path, source: io::Error) -> FileError {
        let path = match path.relative.is_empty() {
            true => ".".to_owned(),
            false => path.shown(),
        };
        ContextError::Read { path, source }.into()
    }

    fn node(&self, path: Path) -> Result<Option<Node>, FileError> {
        let metadata = match fs::symlink_metadata(self.host(&path)) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
            Err(error) => return Err(Self::failed(&path, error)),
        };
        if self.ignore.is_ignored(&path.relative)
            && !(metadata.is_dir() && self.has_wanted(&path)?)
        {
            return Ok(None);
        }
        let last = path.relative.rsplit(|b| *b == b'/').next();
        if last.is_some_and(|name| name.len() > MAX_NAME) {
            return Err(ContextError::Name(path.shown()).into());
        }
        Ok(Some(Node {
            meta: meta(&metadata),
            place: Where::Context(path),
        }))
    }

    /// Whether something in an ignored directory is wanted all the same.
    fn has_wanted(&self, path: &Path) -> Result<bool, FileError> {
        if !self.ignore.has_exceptions() {
            return Ok(false);
        }
        for name in self.list(path)? {
            let child = path.child(&name);
            if !self.ignore.is_ignored(&child.relative) {
                return Ok(true);
            }
            let is_dir = fs::symlink_metadata(self.host(&child)).is_ok_and(|m| m.is_dir());
            if is_dir && self.has_wanted(&child)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn list(&self, path: &Path) -> Result<Vec<Vec<u8>>, FileError> {
        super::check_depth(&path.relative)?;
        let entries = fs::read_dir(self.host(path)).map_err(|e| Self::failed(path, e))?;
        let mut names = entries
            .map(|entry| Ok(entry?.file_name().into_vec()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(|e| Self::failed(path, e))?;
        names.sort_unstable();
        Ok(names)
    }
}

fn meta(metadata: &Metadata) -> Meta {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_dir() => FileType::Directory,
        () if kind.is_file() => FileType::Regular,
        () if kind.is_symlink() => FileType::Symlink,
        // Told apart no further: none of them can be copied.
        () => FileType::Socket,
    };
    Meta {
        kind,
        mode: metadata.mode() & 0o7777,
        // Whoever has the files here is nobody in the image.
        uid: 0,
        gid: 0,
        // When the files came here says nothing about them.
        mtime: i64::MAX,
        size: metadata.len(),
        device: (0, 0),
        identity: None,
    }
}

fn place(node: &Node) -> Option<&Path> {
    match &node.place {
        Where::Context(path) => Some(path),
        _ => None,
    }
}

impl Tree for Context {
    fn root(&self) -> Result<Node, FileError> {
        let path = Path::default();
        let metadata = fs::metadata(&self.root).map_err(|e| Self::failed(&path, e))?;
        Ok(Node {
            meta: meta(&metadata),
            place: Where::Context(path),
        })
    }

    fn child(&self, directory: &Node, name: &[u8]) -> Result<Option<Node>, FileError> {
        match place(directory) {
            Some(directory) if !name.contains(&b'/') => self.node(directory.child(name)),
            _ => Ok(None),
        }
    }

    fn children(&self, directory: &Node) -> Result<Vec<(Vec<u8>, Node)>, FileError> {
        let Some(directory) = place(directory) else {
            return Ok(Vec::new());
        };
        let mut children = Vec::new();
        for name in self.list(directory)? {
            // A file may go while its directory is listed.
            if let Some(node) = self.node(directory.child(&name))? {
                children.push((name, node));
            }
        }
        Ok(children)
    }

    fn link(&self, node: &Node) -> Result<Vec<u8>, FileError> {
        let Some(path) = place(node) else {
            return Ok(Vec::new());
        };
        let target = fs::read_link(self.host(path)).map_err(|e| Self::failed(path, e))?;
        Ok(target.into_os_string().into_vec())
    }

    fn open(&self, node: &Node) -> Result<Box<dyn Read + Send>, FileError> {
        let Some(path) = place(node) else {
            return Ok(Box::new(io::empty()));
        };
        if node.meta.kind != FileType::Regular {
            return Err(ContextError::Special(path.shown()).into());
        }
        // Should somebody have put something else there meanwhile.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = File::options()
            .read(true)
            .custom_flags(flags)
            .open(self.host(path))
            .map_err(|e| Self::failed(path, e))?;
        Ok(Box::new(file))
    }

    fn xattrs(&self, node: &Node) -> Result<Xattrs, FileError> {
        if let (FileType::Socket, Some(path)) = (node.meta.kind, place(node)) {
            return Err(ContextError::Special(path.shown()).into());
        }
        Ok(Xattrs::new())
    }
}
