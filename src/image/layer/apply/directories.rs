//! Directories of a layer: those with entries, those without, and what they hide.

use super::super::error::{Problem, show};
use super::super::path;
use super::super::tar::{Kind, Member};
use super::{Fault, Layer, Place, xattr_bytes};
use crate::image::erofs::{DirId, Entry, FileType, Metadata, Tree};

const OPAQUE_XATTR: &[u8] = b"trusted.overlay.opaque";

impl Layer<'_> {
    pub(super) fn add_root(&mut self, member: &Member) -> Result<(), Fault> {
        if member.kind != Kind::Directory {
            return Err(Problem::Root.into());
        }
        self.describe_directory(Tree::ROOT, member)
    }

    pub(super) fn add_directory(
        &mut self,
        place: &Place<'_>,
        member: &Member,
    ) -> Result<(), Fault> {
        let dir = match self.writer.tree().get(place.dir, place.name) {
            Some(Entry::Dir(dir)) => dir,
            _ => self.make_directory(place)?,
        };
        self.describe_directory(dir, member)
    }

    /// Gives a directory the metadata that its entry says.
    fn describe_directory(&mut self, dir: DirId, member: &Member) -> Result<(), Fault> {
        let mut metadata = self.metadata(member)?;
        let known = self.writer.tree_mut().metadata_mut(dir);
        self.dir_xattrs += xattr_bytes(&metadata.xattrs) + metadata.xattrs.len() * 100;
        if let Some(opaque) = known.xattrs.remove(OPAQUE_XATTR) {
            metadata.xattrs.insert(OPAQUE_XATTR.to_vec(), opaque);
        }
        *known = metadata;
        if self.implicit.remove(&dir) {
            self.implicit_bytes -= self.writer.tree().path_len(dir);
        }
        Ok(())
    }

    /// Makes a directory without metadata in place of a file or of nothing. If the name stood
    /// for something in this layer, what lower layers have there is gone.
    fn make_directory(&mut self, place: &Place<'_>) -> Result<DirId, Fault> {
        let tree = self.writer.tree_mut();
        if tree.path_len(place.dir) + 1 + place.name.len() > path::MAX_PATH {
            return Err(Problem::PathLength.into());
        }
        let replaces = tree.get(place.dir, place.name).is_some();
        let metadata = Metadata {
            mode: 0o755,
            ..Metadata::default()
        };
        let dir = tree.make_dir(place.dir, place.name, metadata);
        self.implicit_bytes += tree.path_len(dir);
        self.implicit.insert(dir);
        if replaces {
            self.make_opaque(dir);
        }
        Ok(dir)
    }

    pub(super) fn make_opaque(&mut self, dir: DirId) {
        let metadata = self.writer.tree_mut().metadata_mut(dir);
        metadata.xattrs.insert(OPAQUE_XATTR.to_vec(), b"y".to_vec());
    }

    /// Hides `name` of lower layers. What this layer itself has under the name stays, as the
    /// image specification says.
    pub(super) fn add_whiteout(&mut self, dir: DirId, name: &[u8]) -> Result<(), Fault> {
        if matches!(name, b"" | b"." | b"..") {
            return Err(Problem::Whiteout.into());
        }
        match self.writer.tree().get(dir, name) {
            Some(Entry::Dir(dir)) => self.make_opaque(dir),
            Some(Entry::File(_)) => {}
            None => {
                let metadata = Metadata::default();
                let file = self
                    .writer
                    .device(FileType::CharDevice, (0, 0), &metadata)?;
                self.whiteouts.insert(file);
                self.writer.tree_mut().link(dir, name, file);
            }
        }
        Ok(())
    }

    /// The directory with these names, made if it is not there. Symbolic links of this layer are
    /// followed; where they lead to nothing in this layer, directories are made as well, for
    /// lower layers may have them.
    pub(super) fn directory(&mut self, names: &[&[u8]]) -> Result<DirId, Fault> {
        let mut walk = path::Walk::new(names);
        while let Some(name) = walk.next_name(self.writer.tree()) {
            match self.writer.tree().get(walk.dir, &name) {
                Some(Entry::Dir(dir)) => walk.dir = dir,
                Some(Entry::File(file)) => {
                    if let Some(target) = self.symlinks.get(&file) {
                        walk.follow(target)?;
                    } else if self.whiteouts.contains(&file) {
                        walk.dir = self.make_parent(walk.dir, &name)?;
                    } else {
                        return Err(Problem::NotADirectory(show(&name)).into());
                    }
                }
                None => walk.dir = self.make_parent(walk.dir, &name)?,
            }
        }
        self.steps += walk.steps();
        Ok(walk.dir)
    }

    fn make_parent(&mut self, dir: DirId, name: &[u8]) -> Result<DirId, Fault> {
        if name.len() > path::MAX_NAME {
            return Err(Problem::NameLength(name.len()).into());
        }
        self.made += 1;
        self.make_directory(&Place { dir, name })
    }
}
