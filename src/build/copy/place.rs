//! Where files end up: entries of a new layer on top of an image's files.

use std::collections::BTreeMap;

use super::{CopyError, Mode};
use crate::build::files::{Node, SharedTree, Tree, resolve};
use crate::build::layer::{Content, Entries, Entry, Kind};
use crate::image::erofs::{FileType, Xattrs};

/// A path as its names.
pub type Names = Vec<Vec<u8>>;

/// Collects the entries of a layer.
#[derive(Debug)]
pub struct Placer<'a> {
    /// The image below; none for a layer that is to fit any image (`--link`).
    image: Option<&'a dyn Tree>,
    /// Whose new files are; as their source has them when not said.
    pub owner: Option<(u32, u32)>,
    /// No file is younger.
    latest: i64,
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Where the files of this copy that have several names were put.
    links: BTreeMap<(usize, u64), Vec<u8>>,
}

impl<'a> Placer<'a> {
    /// A layer on top of `image`.
    pub fn new(image: Option<&'a dyn Tree>, owner: Option<(u32, u32)>, latest: i64) -> Self {
        Self {
            image,
            owner,
            latest,
            entries: BTreeMap::new(),
            links: BTreeMap::new(),
        }
    }

    /// What was collected.
    pub fn finish(self) -> Entries {
        Entries(self.entries)
    }

    /// Where a path leads in the image, links followed.
    pub fn destination(&self, path: &[u8]) -> Result<Names, CopyError> {
        match self.image {
            Some(image) => Ok(resolve(image, path, true)?.path),
            None => Ok(super::lexical(&crate::build::files::names(path))),
        }
    }

    /// What is at a path already: in this layer, or in the image.
    fn existing(&self, path: &[Vec<u8>]) -> Result<Option<Existing>, CopyError> {
        if let Some(entry) = self.entries.get(&path.join(&b'/')) {
            return Ok(Some(match &entry.kind {
                Kind::Directory => Existing::Directory(None),
                Kind::Symlink(target) => Existing::Link(target.clone()),
                _ => Existing::Other,
            }));
        }
        let Some(image) = self.image else {
            return Ok(None);
        };
        let found = match resolve(image, &path.join(&b'/'), false) {
            Ok(place) => place.node,
            Err(crate::build::files::FileError::NotDirectory(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(match found {
            None => None,
            Some(node) if node.meta.kind == FileType::Directory => {
                let xattrs = image.xattrs(&node)?;
                Some(Existing::Directory(Some((node, xattrs))))
            }
            Some(node) if node.meta.kind == FileType::Symlink => {
                Some(Existing::Link(image.link(&node)?))
            }
            Some(_) => Some(Existing::Other),
        })
    }

    /// Makes sure that there is a directory, and everything above it.
    pub fn directory(&mut self, path: &[Vec<u8>]) -> Result<(), CopyError> {
        for depth in 1..=path.len() {
            let path = path.get(..depth).unwrap_or_default();
            let key = path.join(&b'/');
            if let Some(entry) = self.entries.get(&key) {
                match entry.kind {
                    Kind::Directory => continue,
                    _ => return Err(CopyError::OverFile(shown(path))),
                }
            }
            let entry = match self.existing(path)? {
                // As it is, so that nothing about it changes.
                Some(Existing::Directory(Some((node, xattrs)))) => Entry {
                    kind: Kind::Directory,
                    mode: node.meta.mode,
                    uid: node.meta.uid,
                    gid: node.meta.gid,
                    mtime: node.meta.mtime,
                    xattrs,
                },
                Some(Existing::Directory(None)) => continue,
                Some(Existing::Link(_) | Existing::Other) => {
                    return Err(CopyError::OverFile(shown(path)));
                }
                None => {
                    let (uid, gid) = self.owner.unwrap_or_default();
                    Entry {
                        kind: Kind::Directory,
                        mode: 0o755,
                        uid,
                        gid,
                        mtime: self.latest,
                        xattrs: Xattrs::new(),
                    }
                }
            };
            self.entries.insert(key, entry);
        }
        Ok(())
    }

    /// Where a file called `name` goes that is to be copied to `base`.
    pub fn file_target(
        &self,
        base: &[Vec<u8>],
        name: &[u8],
        says_directory: bool,
    ) -> Result<Names, CopyError> {
        let inside = says_directory
            || base.is_empty()
            || matches!(self.existing(base)?, Some(Existing::Directory(_)));
        let mut target = base.to_vec();
        if inside {
            target.push(name.to_vec());
        }
        Ok(target)
    }

    /// Puts a file of a tree at a path.
    pub fn node(
        &mut self,
        path: &[Vec<u8>],
        tree: &SharedTree,
        node: &Node,
        mode: Option<&Mode>,
    ) -> Result<(), CopyError> {
        let meta = &node.meta;
        let known = meta.identity.and_then(|identity| self.links.get(&identity));
        let kind = match (meta.kind, known) {
            (FileType::Directory, _) => Kind::Directory,
            (_, Some(first)) => Kind::Link(first.clone()),
            (FileType::Regular, _) => {
                let content = Content::Tree(SharedTree::clone(tree), node.clone());
                Kind::File(meta.size, content)
            }
            (FileType::Symlink, _) => Kind::Symlink(tree.link(node)?),
            (FileType::CharDevice, _) => Kind::Char(meta.device.0, meta.device.1),
            (FileType::BlockDevice, _) => Kind::Block(meta.device.0, meta.device.1),
            (FileType::Fifo | FileType::Socket, _) => Kind::Fifo,
        };
        // Says no to what a context must not have.
        let xattrs = tree.xattrs(node)?;
        let (uid, gid) = self.owner.unwrap_or((meta.uid, meta.gid));
        let entry = Entry {
            kind,
            mode: meta.mode,
            uid,
            gid,
            mtime: meta.mtime,
            xattrs,
        };
        if let Some(identity) = meta.identity
            && !matches!(entry.kind, Kind::Directory | Kind::Link(_))
        {
            self.links.insert(identity, path.join(&b'/'));
        }
        self.put(path, entry, mode)
    }

    /// Puts a file that is nowhere at a path.
    pub fn content(
        &mut self,
        path: &[Vec<u8>],
        kind: Kind,
        mode: Option<&Mode>,
    ) -> Result<(), CopyError> {
        let (uid, gid) = self.owner.unwrap_or_default();
        let entry = Entry {
            kind,
            mode: 0o644,
            uid,
            gid,
            mtime: self.latest,
            xattrs: Xattrs::new(),
        };
        self.put(path, entry, mode)
    }

    /// Puts an entry at a path, making the directories above it.
    pub fn put(
        &mut self,
        path: &[Vec<u8>],
        mut entry: Entry,
        mode: Option<&Mode>,
    ) -> Result<(), CopyError> {
        let Some((name, parents)) = path.split_last() else {
            return Ok(());
        };
        if name.starts_with(b".wh.") {
            return Err(CopyError::Mark(shown(path)));
        }
        self.directory(parents)?;
        let is_dir = matches!(entry.kind, Kind::Directory);
        match (self.existing(path)?, is_dir) {
            (Some(Existing::Directory(_)), false) => {
                return Err(CopyError::OverDirectory(shown(path)));
            }
            (Some(Existing::Link(_) | Existing::Other), true) => {
                return Err(CopyError::OverFile(shown(path)));
            }
            _ => {}
        }
        if let Some(mode) = mode
            && !matches!(entry.kind, Kind::Symlink(_))
        {
            entry.mode = mode.apply(entry.mode, is_dir);
        }
        if matches!(entry.kind, Kind::Symlink(_)) {
            entry.mode = 0o777;
        }
        entry.mtime = self.time(entry.mtime);
        self.entries.insert(path.join(&b'/'), entry);
        Ok(())
    }

    /// A time that is the same wherever the file was checked out.
    fn time(&self, mtime: i64) -> i64 {
        mtime.min(self.latest)
    }

    /// Where a path of an unpacked archive leads, links of this layer and of the image
    /// followed, but for the last name.
    pub fn follow(&self, path: &[Vec<u8>]) -> Result<Names, CopyError> {
        let mut rest: Names = path.iter().rev().cloned().collect();
        let mut done: Names = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                done.pop();
                continue;
            }
            done.push(name);
            if rest.is_empty() {
                break;
            }
            if let Some(Existing::Link(target)) = self.existing(&done)? {
                links += 1;
                if links > 40 {
                    return Err(crate::build::files::FileError::Loop(shown(path)).into());
                }
                done.pop();
                if target.starts_with(b"/") {
                    done.clear();
                }
                rest.extend(crate::build::files::names(&target).into_iter().rev());
            }
        }
        Ok(done)
    }
}

enum Existing {
    /// With what the image says about it, if it is the image's.
    Directory(Option<(Node, Xattrs)>),
    Link(Vec<u8>),
    Other,
}

fn shown(path: &[Vec<u8>]) -> String {
    format!("/{}", String::from_utf8_lossy(&path.join(&b'/')))
}
