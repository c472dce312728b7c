//! What differs between two images that ought to be the same.

use std::io::{self, Read};
use std::sync::Arc;

use super::BuildError;
use super::files::{ImageTree, Node, Tree, check_depth};
use crate::image::erofs::FileType;
use crate::image::{Image, View};
use crate::store::Store;

/// The most differences that are listed.
const LISTED: usize = 50;

/// One line per difference: of the steps, and of the files.
pub fn compare(store: &Store, one: &Image, other: &Image) -> Result<Vec<String>, BuildError> {
    let mut found = Vec::new();
    let steps = |image: &Image| -> Vec<(String, bool)> {
        let history = image.config.history().clone().unwrap_or_default();
        let step = history.iter().map(|step| {
            let by = step.created_by().clone().unwrap_or_default();
            (by, step.empty_layer().unwrap_or(false))
        });
        step.collect()
    };
    let mut layers = one.layers.iter().zip(&other.layers);
    for (step, empty) in steps(one) {
        if empty {
            continue;
        }
        if let Some((a, b)) = layers.next()
            && a != b
        {
            found.push(format!(
                "{step}: layer {} and then {}",
                a.short(),
                b.short()
            ));
        }
    }
    let open = |image: &Image| -> Result<ImageTree, BuildError> {
        Ok(ImageTree(Arc::new(View::open(store, image)?)))
    };
    let (one, other) = (open(one)?, open(other)?);
    let mut walk = Walk {
        one: &one,
        other: &other,
        found,
    };
    walk.directory("", &one.root()?, &other.root()?)?;
    if walk.found.is_empty() {
        walk.found.push("the configurations differ".to_owned());
    }
    Ok(walk.found)
}

struct Walk<'a> {
    one: &'a ImageTree,
    other: &'a ImageTree,
    found: Vec<String>,
}

impl Walk<'_> {
    fn directory(&mut self, path: &str, a: &Node, b: &Node) -> Result<(), BuildError> {
        check_depth(path.as_bytes())?;
        let mut others = self.other.children(b)?;
        for (name, node) in self.one.children(a)? {
            let path = format!("{path}/{}", String::from_utf8_lossy(&name));
            match others.iter().position(|(other, _)| *other == name) {
                None => self.note(format!("{path}: only the first time")),
                Some(at) => {
                    let (_, other) = others.swap_remove(at);
                    self.file(&path, &node, &other)?;
                }
            }
        }
        for (name, _) in others {
            let name = String::from_utf8_lossy(&name);
            self.note(format!("{path}/{name}: only the second time"));
        }
        Ok(())
    }

    fn file(&mut self, path: &str, a: &Node, b: &Node) -> Result<(), BuildError> {
        let known = |node: &Node| {
            let meta = &node.meta;
            (meta.kind, meta.mode, meta.uid, meta.gid, meta.mtime)
        };
        if known(a) != known(b) || self.one.xattrs(a)? != self.other.xattrs(b)? {
            self.note(format!("{path}: type, mode, owner, time or attributes"));
        } else if a.meta.kind == FileType::Directory {
            return self.directory(path, a, b);
        } else if a.meta.kind == FileType::Symlink {
            if self.one.link(a)? != self.other.link(b)? {
                self.note(format!("{path}: where it leads"));
            }
        } else if a.meta.kind == FileType::Regular {
            let same = same(&mut self.one.open(a)?, &mut self.other.open(b)?);
            if !same.map_err(|error| BuildError::Io(format!("read {path}"), error))? {
                self.note(format!("{path}: content"));
            }
        }
        Ok(())
    }

    fn note(&mut self, text: String) {
        if self.found.len() < LISTED {
            self.found.push(text);
        }
    }
}

fn same(a: &mut impl Read, b: &mut impl Read) -> io::Result<bool> {
    let (mut one, mut two) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let count = fill(a, &mut one)?;
        if fill(b, &mut two)? != count || one[..count] != two[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
