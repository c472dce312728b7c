//! Puts the entries of a layer's archive, one after the other, into the layer's file system.

mod directories;

use std::collections::{HashMap, HashSet};
use std::io::BufRead;

use super::error::{LayerError, Problem, show};
use super::limits::LayerLimits;
use super::path;
use super::tar::{Kind, Member, TarError, TarReader};
use crate::image::erofs::{
    DirId, Entry, FileData, FileId, FileType, Metadata, Tree, WriteError, Writer, Xattrs,
    is_storable_xattr,
};

/// In front of the name of something that a lower layer has and this one has not.
const WHITEOUT: &[u8] = b".wh.";
/// In front of AUFS' own files.
const AUFS: &[u8] = b".wh..wh.";
/// Says that lower layers' content of a directory is gone.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What overlayfs keeps on files for itself.
const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";
/// Names in an entry's path, on average over the most entries that there may be.
const STEPS: u64 = 64;

/// The layer so far.
#[derive(Debug)]
pub struct Layer<'a> {
    writer: Writer<'a>,
    limits: &'a LayerLimits,
    /// Where symbolic links point: paths of later entries may lead through them.
    symlinks: HashMap<FileId, Box<[u8]>>,
    symlink_bytes: usize,
    whiteouts: HashSet<FileId>,
    /// Directories that entries needed and that had no entry themselves so far.
    implicit: HashSet<DirId>,
    implicit_bytes: usize,
    /// Directories made because an entry needed them.
    made: u64,
    /// Names looked up on the way to entries.
    steps: u64,
    /// Bytes of directories' attributes.
    dir_xattrs: usize,
    /// Bytes in regular files.
    content: u64,
}

/// Where an entry's last name belongs.
struct Place<'p> {
    dir: DirId,
    name: &'p [u8],
}

impl<'a> Layer<'a> {
    /// An empty layer.
    pub fn new(writer: Writer<'a>, limits: &'a LayerLimits) -> Self {
        Self {
            writer,
            limits,
            symlinks: HashMap::new(),
            symlink_bytes: 0,
            whiteouts: HashSet::new(),
            implicit: HashSet::from([Tree::ROOT]),
            implicit_bytes: 0,
            made: 0,
            steps: 0,
            dir_xattrs: 0,
            content: 0,
        }
    }

    /// Puts all entries of `tar` in.
    pub fn add_all<R: BufRead>(&mut self, tar: &mut TarReader<R>) -> Result<(), LayerError> {
        let mut last = Vec::new();
        loop {
            let member = tar.next_member().map_err(|source| LayerError::Tar {
                after: show(&last),
                source,
            })?;
            let Some(member) = member else { return Ok(()) };
            self.add(&member, tar)
                .map_err(|fault| fault.at(&member.path))?;
            self.check(tar.headers())?;
            last = member.path;
        }
    }

    fn check(&self, headers: u64) -> Result<(), LayerError> {
        let limit = self.limits.entries;
        if headers + self.made > limit {
            return Err(LayerError::Limit {
                what: "entries",
                limit,
            });
        }
        // Links to long paths through more links cost time that the archive's size does not show.
        let limit = limit.saturating_mul(STEPS);
        if self.steps > limit {
            return Err(LayerError::Limit {
                what: "names in the paths of its entries",
                limit,
            });
        }
        // A link in a map costs its target, and about as much again.
        let links = self.symlink_bytes + self.symlinks.len() * 64;
        let implicit = self.implicit_bytes + self.implicit.len() * 64;
        if self.writer.memory() + links + implicit + self.dir_xattrs > self.limits.memory {
            let limit = self.limits.memory as u64;
            return Err(LayerError::Limit {
                what: "bytes of names and attributes",
                limit,
            });
        }
        Ok(())
    }

    fn add<R: BufRead>(&mut self, member: &Member, tar: &mut TarReader<R>) -> Result<(), Fault> {
        let names = path::split(&member.path)?;
        let Some((&name, parents)) = names.split_last() else {
            return self.add_root(member);
        };
        if name != OPAQUE && names.iter().any(|name| name.starts_with(AUFS)) {
            return Ok(());
        }
        if let Kind::Unknown(letter) = member.kind {
            return Err(Problem::Kind(show(&[letter])).into());
        }
        let dir = self.directory(parents)?;
        if name == OPAQUE {
            self.make_opaque(dir);
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.add_whiteout(dir, hidden);
        }
        if self.writer.tree().path_len(dir) + 1 + name.len() > path::MAX_PATH {
            return Err(Problem::PathLength.into());
        }
        let place = Place { dir, name };
        match member.kind {
            Kind::Directory => self.add_directory(&place, member),
            Kind::HardLink => self.add_hard_link(&place, member),
            Kind::Regular => self.add_regular(&place, member, tar),
            _ => self.add_special(&place, member),
        }
    }

    fn add_hard_link(&mut self, place: &Place<'_>, member: &Member) -> Result<(), Fault> {
        let missing = || Problem::LinkTarget(show(&member.link));
        let names = path::split(&member.link)?;
        let (&last, parents) = names.split_last().ok_or_else(missing)?;
        let mut walk = path::Walk::new(parents);
        let dir = path::find(&mut walk, self.writer.tree(), &self.symlinks)?;
        self.steps += walk.steps();
        let dir = dir.ok_or_else(missing)?;
        let file = match self.writer.tree().get(dir, last) {
            Some(Entry::File(file)) if !self.whiteouts.contains(&file) => file,
            Some(Entry::Dir(_)) => return Err(Problem::LinkToDirectory(show(&member.link)).into()),
            _ => return Err(missing().into()),
        };
        let tree = self.writer.tree_mut();
        if tree.get(place.dir, place.name) == Some(Entry::File(file)) {
            return Ok(());
        }
        if tree.links(file) >= tree.max_links(file) {
            return Err(Problem::TooManyLinks(tree.links(file)).into());
        }
        tree.link(place.dir, place.name, file);
        Ok(())
    }

    fn add_regular<R: BufRead>(
        &mut self,
        place: &Place<'_>,
        member: &Member,
        tar: &mut TarReader<R>,
    ) -> Result<(), Fault> {
        if member.size > self.limits.file_bytes {
            return Err(Problem::FileSize(member.size, self.limits.file_bytes).into());
        }
        let metadata = self.metadata(member)?;
        let mut file = match &member.map {
            None => {
                let mut file = self.writer.begin_file(member.size, 0);
                self.copy(tar, &mut file, member.size)?;
                file
            }
            Some(map) => {
                let mut file = self.writer.begin_file(member.size, map.data());
                for &(offset, length) in map.parts() {
                    let at = file.size() - file.missing();
                    self.writer.skip(&mut file, offset.saturating_sub(at))?;
                    self.copy(tar, &mut file, length)?;
                }
                file
            }
        };
        let missing = file.missing();
        self.writer.skip(&mut file, missing)?;
        let file = self.writer.end_file(file, &metadata)?;
        self.content += member.size;
        self.writer.tree_mut().link(place.dir, place.name, file);
        Ok(())
    }

    /// Copies the next `length` bytes of the archive into `file`.
    fn copy<R: BufRead>(
        &mut self,
        tar: &mut TarReader<R>,
        file: &mut FileData,
        length: u64,
    ) -> Result<(), Fault> {
        let mut left = length;
        while left > 0 {
            let count = tar.data(left, |data| {
                self.writer.append(file, data).map_err(Fault::from)
            })?;
            if count == 0 {
                return Err(TarError::Truncated.into());
            }
            left -= count;
        }
        Ok(())
    }

    /// Everything without data: links, devices and pipes.
    fn add_special(&mut self, place: &Place<'_>, member: &Member) -> Result<(), Fault> {
        let metadata = self.metadata(member)?;
        let device = |file_type| (file_type, member.device);
        let file = match member.kind {
            Kind::Symlink => {
                if member.link.contains(&0) {
                    return Err(Problem::ZeroByte.into());
                }
                let file = self.writer.symlink(&member.link, &metadata)?;
                self.symlink_bytes += member.link.len();
                self.symlinks.insert(file, member.link.clone().into());
                file
            }
            Kind::Fifo => self.writer.endpoint(FileType::Fifo, &metadata)?,
            Kind::BlockDevice => {
                let (kind, numbers) = device(FileType::BlockDevice);
                self.writer.device(kind, numbers, &metadata)?
            }
            _ => {
                let (kind, numbers) = device(FileType::CharDevice);
                self.writer.device(kind, numbers, &metadata)?
            }
        };
        self.writer.tree_mut().link(place.dir, place.name, file);
        Ok(())
    }

    /// An entry's metadata, without attributes that a layer must not or cannot have.
    fn metadata(&self, member: &Member) -> Result<Metadata, Fault> {
        let kept = member
            .xattrs
            .iter()
            .filter(|(name, _)| is_storable_xattr(name) && !name.starts_with(OVERLAY_XATTRS));
        let xattrs: Xattrs = kept
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let bytes = xattr_bytes(&xattrs);
        if bytes > self.limits.xattr_bytes {
            return Err(Problem::Xattrs(bytes, self.limits.xattr_bytes).into());
        }
        Ok(Metadata {
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            mtime: member.mtime,
            xattrs,
        })
    }

    /// Ends the layer: the image's size, the bytes in files and the implicit directories.
    pub fn finish(self, uuid: [u8; 16]) -> Result<Finished, LayerError> {
        let mut implicit_dirs = Vec::new();
        if self.implicit.contains(&Tree::ROOT) {
            implicit_dirs.push(b"/".to_vec());
        }
        self.writer.tree().for_each_dir(|dir, path| {
            if self.implicit.contains(&dir) {
                implicit_dirs.push([b"/", path].concat());
            }
        });
        let image_size = self.writer.finish(uuid).map_err(LayerError::Write)?;
        Ok(Finished {
            image_size,
            content_size: self.content,
            implicit_dirs,
        })
    }
}

fn xattr_bytes(xattrs: &Xattrs) -> usize {
    xattrs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

/// What is known once a layer is complete.
#[derive(Debug)]
pub struct Finished {
    /// Bytes of the image.
    pub image_size: u64,
    /// Bytes in regular files.
    pub content_size: u64,
    /// Paths of directories without an entry.
    pub implicit_dirs: Vec<Vec<u8>>,
}

/// What went wrong with an entry, before it is known how to say it.
#[derive(Debug)]
enum Fault {
    Problem(Problem),
    Write(WriteError),
    Tar(TarError),
}

impl Fault {
    fn at(self, path: &[u8]) -> LayerError {
        let path = show(path);
        match self {
            Self::Problem(problem) => LayerError::Entry { path, problem },
            Self::Tar(source) => LayerError::Tar {
                after: path,
                source,
            },
            Self::Write(error @ (WriteError::Io(_) | WriteError::ImageTooLarge)) => {
                LayerError::Write(error)
            }
            Self::Write(error) => LayerError::Entry {
                path,
                problem: Problem::Write(error),
            },
        }
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<TarError> for Fault {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}
