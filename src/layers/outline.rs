//! A layer's files in a few lines: whole directories stand for what is in them.

use std::collections::BTreeMap;

use super::{Change, What, shown};
use crate::image::erofs::FileType;

/// A path, or a directory for all of a layer that is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The path; one that stands for more ends with `/`.
    pub path: String,
    /// What happens there; [`What::Changed`] where it is not the same everywhere below.
    pub what: What,
    /// Paths that the line stands for.
    pub count: usize,
    /// Bytes of them.
    pub size: u64,
    /// What it hides of lower layers.
    pub hides: usize,
    /// Only what this layer and those above have in it is seen.
    pub opaque: bool,
}

/// What a layer does in at most `limit` lines, as deep as fits, and how many lines there would be
/// more: those with the fewest bytes.
pub fn outline(changes: &[Change], limit: usize) -> (Vec<Line>, usize) {
    let mut lines = as_deep_as_fits(changes, limit);
    let rest = lines.len().saturating_sub(limit);
    if rest > 0 {
        lines.sort_by_key(|line| std::cmp::Reverse((line.size, line.count)));
        lines.truncate(limit);
        lines.sort_by(|a, b| a.path.cmp(&b.path));
    }
    (lines, rest)
}

fn as_deep_as_fits(changes: &[Change], limit: usize) -> Vec<Line> {
    if changes.len() <= limit {
        return changes.iter().map(line).collect();
    }
    let mut best = at_depth(changes, 1);
    for depth in 2.. {
        let deeper = at_depth(changes, depth);
        if deeper.len() > limit || deeper.len() == changes.len() {
            break;
        }
        if deeper == best {
            break;
        }
        best = deeper;
    }
    best
}

fn line(change: &Change) -> Line {
    let slash = match change.file {
        Some(FileType::Directory) => "/",
        _ => "",
    };
    Line {
        path: format!("{}{slash}", shown(&change.path)),
        what: change.what,
        count: 1,
        size: change.size,
        hides: change.hides,
        opaque: change.opaque,
    }
}

fn at_depth(changes: &[Change], depth: usize) -> Vec<Line> {
    let mut lines: BTreeMap<&[u8], Line> = BTreeMap::new();
    for change in changes {
        let cut = change.path.iter().enumerate();
        let mut cut = cut.filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let key = match cut.nth(depth - 1) {
            Some(end) => &change.path[..end],
            None => change.path.as_slice(),
        };
        match lines.get_mut(key) {
            None => {
                let mut line = line(change);
                line.path = shown(key);
                if key != change.path || change.file == Some(FileType::Directory) {
                    line.path.push('/');
                }
                // A directory in which something happens is not itself deleted or made opaque.
                if key != change.path {
                    line.opaque = false;
                }
                lines.insert(key, line);
            }
            Some(line) => {
                line.count += 1;
                line.size += change.size;
                line.hides += change.hides;
                if line.what != change.what {
                    line.what = What::Changed;
                }
            }
        }
    }
    lines.into_values().collect()
}
