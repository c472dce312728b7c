//! `COPY` and `ADD`: which files go where, as entries of a layer, worked out on the host.
//!
//! No guest is needed: the destination is looked up in the image's layers, and the result is an
//! archive whose bytes depend on contents, names and modes only.

mod mode;
mod place;
mod unpack;

pub use mode::Mode;
pub use place::Placer;
pub use unpack::{Archive, is_compressed, read_archive, unpack};

use std::io;
use std::sync::Arc;

use super::files::{
    FileError, Ignore, Node, SharedTree, check_depth, glob, is_pattern, names, resolve,
};
use super::layer::{Content, Kind};
use crate::image::erofs::FileType;

/// Why files cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source is not there.
    #[error("{0}: not found in {1}")]
    NotFound(String, String),
    /// No file matches a pattern.
    #[error("no source files were specified: nothing in {1} matches {0}")]
    NoMatch(String, String),
    /// Several files to one name.
    #[error("with more than one source file the destination must be a directory and end with a /")]
    NotDirectory,
    /// A directory where a file is.
    #[error("cannot copy a directory to {0}: there is something else in the image")]
    OverFile(String),
    /// A file where a directory is.
    #[error("cannot copy a file to {0}: there is a directory in the image")]
    OverDirectory(String),
    /// A name that means something else in a layer.
    #[error(
        "cannot copy to {0}: in an image's layer a name that begins with .wh. hides another file"
    )]
    Mark(String),
    /// A mode that is none.
    #[error(
        "invalid mode {0:?} in --chmod, use an octal number such as 0755, or for example u+x,go-w"
    )]
    Mode(String),
    /// Something that is not an archive after all.
    #[error("unpacking {0}: {1}")]
    Archive(String, io::Error),
    /// Not among what can be copied.
    #[error(transparent)]
    File(#[from] FileError),
    /// A temporary file failed.
    #[error("unpacking: {0}")]
    Io(#[from] io::Error),
}

/// Something to copy.
#[derive(Debug)]
pub enum Source {
    /// A path or a pattern in a tree.
    Path(SharedTree, String),
    /// A file that exists nowhere: its name and content.
    Text(String, Arc<[u8]>),
    /// A file that was fetched: its name, content and size.
    Fetched(String, Content, u64),
}

/// How to copy.
#[derive(Debug)]
pub struct Options {
    /// What messages call the place that the sources are in.
    pub place: String,
    /// Absolute, or below the working directory.
    pub destination: String,
    /// Where relative destinations begin.
    pub working_dir: String,
    /// `--chmod`.
    pub mode: Option<Mode>,
    /// `--exclude`.
    pub exclude: Ignore,
    /// `--parents`: the path of a source stays.
    pub parents: bool,
    /// `ADD`: archives are unpacked.
    pub unpack: bool,
}

/// Works out the entries; `temporary` makes a file for what is unpacked.
pub fn copy(
    placer: &mut Placer<'_>,
    sources: &[Source],
    options: &Options,
    temporary: &dyn Fn() -> io::Result<std::fs::File>,
) -> Result<(), CopyError> {
    let whole = match options.destination.starts_with('/') {
        true => options.destination.clone(),
        false => format!("{}/{}", options.working_dir, options.destination),
    };
    let found = find(sources, options)?;
    let says_directory = ["/", "/.", "/.."].iter().any(|end| whole.ends_with(end));
    if found.len() > 1 && !says_directory {
        return Err(CopyError::NotDirectory);
    }
    let base = placer.destination(whole.as_bytes())?;
    for item in found {
        match item {
            Item::Node(tree, node, path) if node.meta.kind == FileType::Directory => {
                let mut target = base.clone();
                if options.parents {
                    target.extend(path.iter().cloned());
                }
                placer.directory(&target)?;
                tree_into(placer, &tree, &node, &path, &target, options)?;
            }
            Item::Node(tree, node, path) => {
                let name = path.last().cloned().unwrap_or_default();
                if options.exclude.is_ignored(&path.join(&b'/')) {
                    continue;
                }
                if options.unpack
                    && node.meta.kind == FileType::Regular
                    && let Some(archive) = Archive::detect(|| Ok(tree.open(&node)?))?
                {
                    let shown = String::from_utf8_lossy(&name).into_owned();
                    placer.directory(&base)?;
                    unpack(
                        placer,
                        &base,
                        archive,
                        &shown,
                        options.mode.as_ref(),
                        temporary()?,
                    )?;
                    continue;
                }
                let target = match options.parents {
                    true => [base.as_slice(), path.as_slice()].concat(),
                    false => placer.file_target(&base, &name, says_directory)?,
                };
                placer.node(&target, &tree, &node, options.mode.as_ref())?;
            }
            Item::Content(name, content, size) => {
                let target = placer.file_target(&base, name.as_bytes(), says_directory)?;
                placer.content(&target, Kind::File(size, content), options.mode.as_ref())?;
            }
        }
    }
    Ok(())
}

enum Item {
    /// A file with its path in its tree.
    Node(SharedTree, Node, Vec<Vec<u8>>),
    Content(String, Content, u64),
}

fn find(sources: &[Source], options: &Options) -> Result<Vec<Item>, CopyError> {
    let mut found = Vec::new();
    for source in sources {
        let (tree, path) = match source {
            Source::Path(tree, path) => (tree, path),
            Source::Text(name, content) => {
                let size = content.len() as u64;
                let content = Content::Bytes(Arc::clone(content));
                found.push(Item::Content(name.clone(), content, size));
                continue;
            }
            Source::Fetched(name, content, size) => {
                found.push(Item::Content(name.clone(), content.clone(), *size));
                continue;
            }
        };
        let before = found.len();
        let is_glob = is_pattern(path.as_bytes());
        let paths = match is_glob {
            true => glob(&**tree, path)?,
            false => vec![path.as_bytes().to_vec()],
        };
        for path in paths {
            let named = names(&path);
            // A file is called as it was named, whatever links lead to it.
            if let Some(node) = resolve_or_missing(tree, &path)? {
                let lexical = lexical(&named);
                found.push(Item::Node(Arc::clone(tree), node, lexical));
            }
        }
        if found.len() == before {
            let (path, place) = (path.clone(), options.place.clone());
            return Err(match is_glob {
                true => CopyError::NoMatch(path, place),
                false => CopyError::NotFound(path, place),
            });
        }
    }
    Ok(found)
}

fn resolve_or_missing(tree: &SharedTree, path: &[u8]) -> Result<Option<Node>, FileError> {
    match resolve(&**tree, path, true) {
        Ok(place) => Ok(place.node),
        Err(FileError::NotDirectory(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The path without `..`.
fn lexical(names: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut path: Vec<Vec<u8>> = Vec::new();
    for name in names {
        match name.as_slice() {
            b".." => drop(path.pop()),
            _ => path.push(name.clone()),
        }
    }
    path
}

/// Copies what is in a directory.
fn tree_into(
    placer: &mut Placer<'_>,
    tree: &SharedTree,
    directory: &Node,
    path: &[Vec<u8>],
    target: &[Vec<u8>],
    options: &Options,
) -> Result<(), CopyError> {
    check_depth(&path.join(&b'/'))?;
    for (name, node) in tree.children(directory)? {
        let inner = [path, std::slice::from_ref(&name)].concat();
        let there = [target, std::slice::from_ref(&name)].concat();
        let excluded = options.exclude.is_ignored(&inner.join(&b'/'));
        if node.meta.kind == FileType::Directory {
            if !excluded {
                placer.node(&there, tree, &node, options.mode.as_ref())?;
            } else if !options.exclude.has_exceptions() {
                continue;
            }
            tree_into(placer, tree, &node, &inner, &there, options)?;
        } else if !excluded {
            placer.node(&there, tree, &node, options.mode.as_ref())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
