//! Paths of entries: taken apart, and followed through the layer's symbolic links.
//!
//! Nothing here touches the host's file system. A link's target is a path from the layer's own
//! root, above which there is nothing, so no path can lead out of the layer.

use std::collections::HashMap;

use super::error::Problem;
use crate::image::erofs::{DirId, Entry, FileId, MAX_NAME as NAME, Tree};

/// The longest path, with its leading slash.
pub const MAX_PATH: usize = 4095;
/// The longest name.
pub const MAX_NAME: usize = NAME;
/// As many links as Linux follows in one path.
const MAX_LINKS: usize = 40;

/// The names in a path. Absolute paths are taken from the layer's root, as docker does.
pub fn split(path: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    if path.contains(&0) {
        return Err(Problem::ZeroByte);
    }
    if path.len() > 2 * MAX_PATH {
        return Err(Problem::PathLength);
    }
    let mut names = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(Problem::ParentComponent),
            _ if name.len() > MAX_NAME => return Err(Problem::NameLength(name.len())),
            _ => names.push(name),
        }
    }
    Ok(names)
}

/// A walk along a path, link by link.
pub struct Walk {
    /// The directory reached so far.
    pub dir: DirId,
    /// Names still to come, the next one last.
    names: Vec<Box<[u8]>>,
    links: usize,
    steps: u64,
}

impl Walk {
    /// Begins at the root.
    pub fn new(names: &[&[u8]]) -> Self {
        let names = names.iter().rev().map(|name| Box::from(*name)).collect();
        Self {
            dir: Tree::ROOT,
            names,
            links: 0,
            steps: 0,
        }
    }

    /// The next name to look up in `dir`.
    pub fn next_name(&mut self, tree: &Tree) -> Option<Box<[u8]>> {
        loop {
            let name = self.names.pop()?;
            self.steps += 1;
            match &name[..] {
                b"" | b"." => {}
                b".." => self.dir = tree.parent(self.dir),
                _ => return Some(name),
            }
        }
    }

    /// Names looked at so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Goes on at a link's target.
    pub fn follow(&mut self, target: &[u8]) -> Result<(), Problem> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Problem::SymlinkLoop);
        }
        if target.starts_with(b"/") {
            self.dir = Tree::ROOT;
        }
        self.names
            .extend(target.split(|&byte| byte == b'/').rev().map(Box::from));
        Ok(())
    }
}

/// Walks to the end, links followed, if the layer has a directory there.
pub fn find(
    walk: &mut Walk,
    tree: &Tree,
    symlinks: &HashMap<FileId, Box<[u8]>>,
) -> Result<Option<DirId>, Problem> {
    while let Some(name) = walk.next_name(tree) {
        match tree.get(walk.dir, &name) {
            Some(Entry::Dir(dir)) => walk.dir = dir,
            Some(Entry::File(file)) => match symlinks.get(&file) {
                Some(target) => walk.follow(target)?,
                None => return Ok(None),
            },
            None => return Ok(None),
        }
    }
    Ok(Some(walk.dir))
}
