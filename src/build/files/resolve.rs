//! From a path to a file, with links followed inside the tree's root only.

use super::{FileError, Node, Pattern, Tree, is_pattern};
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
    walk(tree, &start, &node, &compiled, &mut found)?;
    found.sort();
    found.dedup();
    Ok(found)
}

fn walk(
    tree: &dyn Tree,
    path: &[u8],
    node: &Node,
    parts: &[Pattern],
    found: &mut Vec<Vec<u8>>,
) -> Result<(), FileError> {
    let Some((part, rest)) = parts.split_first() else {
        found.push(path.to_vec());
        return Ok(());
    };
    if part.is_any_depth() {
        walk(tree, path, node, rest, found)?;
    }
    if node.meta.kind != FileType::Directory {
        return Ok(());
    }
    for (name, child) in tree.children(node)? {
        let inner = match path.is_empty() {
            true => name.clone(),
            false => [path, &name].join(&b'/'),
        };
        if part.is_any_depth() {
            walk(tree, &inner, &child, parts, found)?;
        } else if part.matches(&name) {
            // A link to a directory in the middle of a path is followed.
            let target = match (child.meta.kind, rest.is_empty()) {
                (FileType::Symlink, false) => find(tree, &inner)?,
                _ => Some(child),
            };
            if let Some(target) = target {
                walk(tree, &inner, &target, rest, found)?;
            }
        }
    }
    Ok(())
}
