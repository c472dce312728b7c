//! The names of the image while it is being written: directories, and what is in them.

use std::collections::BTreeMap;

use super::{FileType, Metadata};

/// A directory of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirId(pub(super) u32);

/// Any other file of the tree; it may have several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub(super) u32);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Dir(DirId),
    /// Anything else.
    File(FileId),
}

/// A directory and its metadata.
#[derive(Debug)]
pub(super) struct Directory {
    pub parent: DirId,
    pub path_len: usize,
    pub metadata: Metadata,
    pub children: BTreeMap<Box<[u8]>, Entry>,
}

/// An inode that is in the image already.
#[derive(Debug)]
pub(super) struct Stored {
    pub nid: u64,
    pub links: u32,
    pub file_type: FileType,
    pub compact: bool,
}

/// All directories and files. Files whose last name is gone stay in the image, unreachable.
#[derive(Debug)]
pub struct Tree {
    pub(super) dirs: Vec<Directory>,
    pub(super) files: Vec<Stored>,
    name_bytes: usize,
}

impl Tree {
    /// The root directory.
    pub const ROOT: DirId = DirId(0);

    pub(super) fn new() -> Self {
        let root = Directory {
            parent: Self::ROOT,
            path_len: 0,
            metadata: Metadata {
                mode: 0o755,
                ..Metadata::default()
            },
            children: BTreeMap::new(),
        };
        Self {
            dirs: vec![root],
            files: Vec::new(),
            name_bytes: 0,
        }
    }

    fn dir(&self, id: DirId) -> &Directory {
        &self.dirs[id.0 as usize]
    }

    fn dir_mut(&mut self, id: DirId) -> &mut Directory {
        &mut self.dirs[id.0 as usize]
    }

    /// What `name` in `dir` stands for.
    pub fn get(&self, dir: DirId, name: &[u8]) -> Option<Entry> {
        self.dir(dir).children.get(name).copied()
    }

    /// The directory that `dir` is in; the root is in itself.
    pub fn parent(&self, dir: DirId) -> DirId {
        self.dir(dir).parent
    }

    /// Bytes of the path of a directory, with its leading slash.
    pub fn path_len(&self, dir: DirId) -> usize {
        self.dir(dir).path_len
    }

    /// Metadata of a directory.
    pub fn metadata(&self, dir: DirId) -> &Metadata {
        &self.dir(dir).metadata
    }

    /// Metadata of a directory, to change.
    pub fn metadata_mut(&mut self, dir: DirId) -> &mut Metadata {
        &mut self.dir_mut(dir).metadata
    }

    /// The kind of a file.
    pub fn file_type(&self, file: FileId) -> FileType {
        self.files[file.0 as usize].file_type
    }

    /// Names of a file.
    pub fn links(&self, file: FileId) -> u32 {
        self.files[file.0 as usize].links
    }

    /// The most names that a file can have.
    pub fn max_links(&self, file: FileId) -> u32 {
        if self.files[file.0 as usize].compact {
            u16::MAX.into()
        } else {
            u32::MAX
        }
    }

    /// Memory that the tree takes, roughly.
    pub fn memory(&self) -> usize {
        // A name costs its bytes, its place in a map and what the allocator adds.
        self.name_bytes + self.dirs.len() * 200 + self.files.len() * size_of::<Stored>()
    }

    /// Makes a directory in `parent`, in place of whatever has that name.
    pub fn make_dir(&mut self, parent: DirId, name: &[u8], metadata: Metadata) -> DirId {
        self.remove(parent, name);
        let id = DirId(self.dirs.len() as u32);
        let path_len = self.path_len(parent) + 1 + name.len();
        self.dirs.push(Directory {
            parent,
            path_len,
            metadata,
            children: BTreeMap::new(),
        });
        self.insert(parent, name, Entry::Dir(id));
        id
    }

    /// Gives `file` a name in `dir`, in place of whatever has that name.
    pub fn link(&mut self, dir: DirId, name: &[u8], file: FileId) {
        // First the new name, so that a file does not go with the old one.
        self.files[file.0 as usize].links += 1;
        self.remove(dir, name);
        self.insert(dir, name, Entry::File(file));
    }

    fn insert(&mut self, dir: DirId, name: &[u8], entry: Entry) {
        self.name_bytes += name_cost(name);
        self.dir_mut(dir).children.insert(name.into(), entry);
    }

    /// Takes a name away, with everything below it if it is a directory.
    pub fn remove(&mut self, dir: DirId, name: &[u8]) {
        let Some(entry) = self.dir_mut(dir).children.remove(name) else {
            return;
        };
        self.name_bytes -= name_cost(name);
        let mut gone = vec![entry];
        while let Some(entry) = gone.pop() {
            match entry {
                Entry::File(file) => self.files[file.0 as usize].links -= 1,
                Entry::Dir(dir) => {
                    let dir = self.dir_mut(dir);
                    dir.metadata = Metadata::default();
                    let children = std::mem::take(&mut dir.children);
                    self.name_bytes -= children.keys().map(|name| name_cost(name)).sum::<usize>();
                    gone.extend(children.into_values());
                }
            }
        }
    }

    /// Calls `each` with every directory below the root and its path without a leading slash.
    pub fn for_each_dir(&self, mut each: impl FnMut(DirId, &[u8])) {
        let mut path = Vec::new();
        let mut todo = vec![self.dir(Self::ROOT).children.iter()];
        let mut lengths = vec![0];
        while let (Some(children), Some(&length)) = (todo.last_mut(), lengths.last()) {
            path.truncate(length);
            match children.next() {
                Some((name, Entry::Dir(dir))) => {
                    if length > 0 {
                        path.push(b'/');
                    }
                    path.extend_from_slice(name);
                    each(*dir, &path);
                    todo.push(self.dir(*dir).children.iter());
                    lengths.push(path.len());
                }
                Some(_) => {}
                None => {
                    todo.pop();
                    lengths.pop();
                }
            }
        }
    }

    /// Directories that still have a name, each before those in it, in byte order of names.
    pub(super) fn reachable_dirs(&self) -> Vec<DirId> {
        let mut order = Vec::new();
        let mut todo = vec![Self::ROOT];
        while let Some(id) = todo.pop() {
            order.push(id);
            todo.extend(
                self.dir(id)
                    .children
                    .values()
                    .rev()
                    .filter_map(|entry| match entry {
                        Entry::Dir(dir) => Some(*dir),
                        Entry::File(_) => None,
                    }),
            );
        }
        order
    }
}

fn name_cost(name: &[u8]) -> usize {
    name.len() + 56
}
