//! From a path to a file, with links followed inside the tree's root only.

use std::collections::BTreeSet;
use std::io::Read;

use super::{FileError, Node, Pattern, Tree, check_depth, is_pattern};
use crate::image::erofs::FileType;

/// As many links as Linux follows in one path.
const MAX_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, Clone)]
pub struct Place {
    /// The names from the root, none of which is a link as far as they exist.
    pub path: Vec<Vec<u8>>,
    /// What is there, if anything.
    pub node: Option<Node>,
}

/// The names in a path; `.` and empty ones left out.
pub fn names(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Follows `path` from the root. `follow` says whether a link at its end is followed too.
pub fn resolve(tree: &dyn Tree, path: &[u8], follow: bool) -> Result<Place, FileError> {
    let shown = || String::from_utf8_lossy(path).into_owned();
    let mut rest = names(path);
    rest.reverse();
    let mut path: Vec<(Vec<u8>, Option<Node>)> = Vec::new();
    let root = tree.root()?;
    let mut links = 0;
    while let Some(name) = rest.pop() {
        if name == b".." {
            path.pop();
            continue;
        }
        let here = match path.last() {
            Some((_, node)) => node.as_ref(),
            None => Some(&root),
        };
        let Some(here) = here else {
            // Below what is missing everything is missing.
            path.push((name, None));
            continue;
        };
        if here.meta.kind != FileType::Directory {
            return Err(FileError::NotDirectory(shown()));
        }
        let found = tree.child(here, &name)?;
        match &found {
            Some(node) if node.meta.kind == FileType::Symlink && (follow || !rest.is_empty()) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(FileError::Loop(shown()));
                }
                let target = tree.link(node)?;
                if target.starts_with(b"/") {
                    path.clear();
                }
                rest.extend(names(&target).into_iter().rev());
            }
            _ => path.push((name, found)),
        }
    }
    let node = match path.last() {
        Some((_, node)) => node.clone(),
        None => Some(root),
    };
    Ok(Place {
        path: path.into_iter().map(|(name, _)| name).collect(),
        node,
    })
}

/// The file at `path`, links followed, if there is one.
pub fn find(tree: &dyn Tree, path: &[u8]) -> Result<Option<Node>, FileError> {
    match resolve(tree, path, true) {
        Ok(place) => Ok(place.node),
        Err(FileError::NotDirectory(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The content of a file that ought to be small, if there is one; one byte more than `limit` when
/// it is not. Links are followed inside the tree.
pub fn read_small(tree: &dyn Tree, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    let Some(node) = find(tree, path.as_bytes())? else {
        return Ok(None);
    };
    let mut content = Vec::new();
    tree.open(&node)?
        .take(limit + 1)
        .read_to_end(&mut content)
        .map_err(|error| FileError::Read(path.to_owned(), error))?;
    Ok(Some(content))
}

/// The paths that a pattern of `*`, `?`, `[…]` and `**` matches, sorted.
pub fn glob(tree: &dyn Tree, pattern: &str) -> Result<Vec<Vec<u8>>, FileError> {
    let parts = names(pattern.as_bytes());
    let plain = parts.iter().take_while(|part| !is_pattern(part)).count();
    let (prefix, parts) = parts.split_at(plain);
    let start = prefix.join(&b'/');
    let Some(node) = find(tree, &start)? else {
        return Ok(Vec::new());
    };
    let compiled = parts
        .iter()
        .map(|part| Pattern::new(&String::from_utf8_lossy(part)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut found = Vec::new();
    let walk = Walk {
        tree,
        parts: &compiled,
    };
    walk.node(&start, &node, BTreeSet::from([0]), &mut found)?;
    found.sort();
    found.dedup();
    Ok(found)
}

/// Looks for what a pattern matches; each directory is listed once, whatever the pattern is.
struct Walk<'a> {
    tree: &'a dyn Tree,
    parts: &'a [Pattern],
}

impl Walk<'_> {
    /// Goes on at a path that has taken the pattern to these places of it.
    fn node(
        &self,
        path: &[u8],
        node: &Node,
        mut places: BTreeSet<usize>,
        found: &mut Vec<Vec<u8>>,
    ) -> Result<(), FileError> {
        let any_depth = |at: &usize| self.parts.get(*at).is_some_and(Pattern::is_any_depth);
        check_depth(path)?;
        // `**` may also be nothing.
        for at in 0..self.parts.len() {
            if places.contains(&at) && any_depth(&at) {
                places.insert(at + 1);
            }
        }
        if places.contains(&self.parts.len()) {
            found.push(path.to_vec());
        }
        let goes_on = places.iter().any(|at| *at < self.parts.len());
        if node.meta.kind != FileType::Directory || !goes_on {
            return Ok(());
        }
        for (name, child) in self.tree.children(node)? {
            let (mut here, mut beyond) = (BTreeSet::new(), BTreeSet::new());
            for at in &places {
                let Some(part) = self.parts.get(*at) else {
                    continue;
                };
                if part.is_any_depth() {
                    here.insert(*at);
                } else if part.matches(&name) {
                    // A link to a directory in the middle of a path is followed.
                    let ends = at + 1 == self.parts.len();
                    match child.meta.kind {
                        FileType::Symlink if !ends => beyond.insert(at + 1),
                        _ => here.insert(at + 1),
                    };
                }
            }
            let inner = match path.is_empty() {
                true => name.clone(),
                false => [path, &name].join(&b'/'),
            };
            if !here.is_empty() {
                self.node(&inner, &child, here, found)?;
            }
            if !beyond.is_empty()
                && let Some(target) = find(self.tree, &inner)?
            {
                self.node(&inner, &target, beyond, found)?;
            }
        }
        Ok(())
    }
}
