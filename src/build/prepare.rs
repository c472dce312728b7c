//! From what the command line names to a Dockerfile's text and the files to copy from.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::BuildError;
use super::dockerfile::Source;
use super::files::{Context, EntriesTree, Ignore, SharedTree};
use crate::store::Store;

/// The largest Dockerfile.
const MAX_DOCKERFILE: u64 = 16 << 20;

/// Where a build comes from.
#[derive(Debug)]
pub struct Prepared {
    /// The Dockerfile.
    pub source: Source,
    /// The context.
    pub context: SharedTree,
}

/// Finds Dockerfile and context. `location` is a directory, or `-` for a Dockerfile or an archive
/// on the standard input; `file` is the Dockerfile where it is not in its usual place.
pub fn prepare(store: &Store, location: &str, file: Option<&str>) -> Result<Prepared, BuildError> {
    let remote = ["http://", "https://", "git://", "git@", "ssh://"];
    if remote.iter().any(|start| location.starts_with(start)) || location.ends_with(".git") {
        let message = format!(
            "a remote context ({location}) is not there yet: clone or download it and give the directory"
        );
        return Err(BuildError::Usage(message));
    }
    if location == "-" {
        return from_input(store, file);
    }
    let root = PathBuf::from(location);
    let metadata = fs::metadata(&root).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BuildError::Usage(format!(
            "unable to prepare context: path {location:?} not found"
        )),
        _ => BuildError::Io(format!("read the build context {location}"), error),
    })?;
    if !metadata.is_dir() {
        let message = format!(
            "unable to prepare context: {location:?} is not a directory; name a Dockerfile with -f"
        );
        return Err(BuildError::Usage(message));
    }
    let (source, beside) = match file {
        Some("-") => (
            Source {
                name: "-".to_owned(),
                text: text(&mut io::stdin().lock(), "the standard input")?,
            },
            None,
        ),
        Some(file) => (read(Path::new(file))?, Some(format!("{file}.dockerignore"))),
        None => {
            let path = find(&root)?;
            let mut source = read(&path)?;
            let name = path.file_name().unwrap_or_default();
            source.name = name.to_string_lossy().into_owned();
            (source, Some(format!("{}.dockerignore", path.display())))
        }
    };
    let ignore = ignore(&root, beside.as_deref())?;
    Ok(Prepared {
        source,
        context: Arc::new(Context::new(root, ignore)),
    })
}

fn find(root: &Path) -> Result<PathBuf, BuildError> {
    let names = ["Dockerfile", "dockerfile", "Containerfile"];
    let found = names
        .iter()
        .map(|name| root.join(name))
        .find(|path| path.exists());
    found.ok_or_else(|| {
        let root = root.display();
        BuildError::Usage(format!(
            "there is no Dockerfile in {root}, name one with -f"
        ))
    })
}

fn read(path: &Path) -> Result<Source, BuildError> {
    let shown = path.display().to_string();
    let mut file = fs::File::open(path)
        .map_err(|error| BuildError::Io(format!("read the Dockerfile {shown}"), error))?;
    Ok(Source {
        text: text(&mut file, &shown)?,
        name: shown,
    })
}

fn text(input: &mut dyn Read, name: &str) -> Result<String, BuildError> {
    let mut bytes = Vec::new();
    input
        .take(MAX_DOCKERFILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| BuildError::Io(format!("read the Dockerfile {name}"), error))?;
    if bytes.len() as u64 > MAX_DOCKERFILE {
        let message = format!("the Dockerfile {name} is too long, the limit is 16 MiB");
        return Err(BuildError::Usage(message));
    }
    String::from_utf8(bytes)
        .map_err(|_| BuildError::Usage(format!("the Dockerfile {name} is not UTF-8 text")))
}

/// The rules beside the Dockerfile, else those of the context.
fn ignore(root: &Path, beside: Option<&str>) -> Result<Ignore, BuildError> {
    let candidates = beside.map(PathBuf::from).into_iter();
    for path in candidates.chain([root.join(".dockerignore")]) {
        match fs::read(&path) {
            Ok(bytes) => return Ok(Ignore::parse(&String::from_utf8_lossy(&bytes))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(BuildError::Io(format!("read {}", path.display()), error));
            }
        }
    }
    Ok(Ignore::default())
}

/// A Dockerfile alone, or an archive with one in it.
fn from_input(store: &Store, file: Option<&str>) -> Result<Prepared, BuildError> {
    let failed = |error| BuildError::Io("read the standard input".to_owned(), error);
    let mut head = vec![0; 512];
    let mut input = io::stdin().lock();
    let mut filled = 0;
    while filled < head.len() {
        match input.read(&mut head[filled..]).map_err(failed)? {
            0 => break,
            count => filled += count,
        }
    }
    head.truncate(filled);
    // What is not text is an archive.
    let is_text = !head.contains(&0) && !head.starts_with(b"\x1f\x8b");
    let mut whole = io::Cursor::new(head).chain(input);
    if is_text {
        if file.is_some_and(|file| file != "-") {
            let message = "the standard input is a Dockerfile, so -f cannot name another";
            return Err(BuildError::Usage(message.to_owned()));
        }
        return Ok(Prepared {
            source: Source {
                name: "-".to_owned(),
                text: text(&mut whole, "the standard input")?,
            },
            context: Arc::new(EntriesTree::default()),
        });
    }
    archive(store, Box::new(whole), file.unwrap_or("Dockerfile"))
}

/// An archive with a Dockerfile of this name in it.
pub fn archive(store: &Store, input: Box<dyn Read>, name: &str) -> Result<Prepared, BuildError> {
    let spool = store.temp_file("context")?;
    let spool = spool.file().try_clone();
    let spool = spool.map_err(|error| BuildError::Io("unpack the context".to_owned(), error))?;
    let entries = super::copy::read_archive(input, "the context", spool)?;
    let mut tree = EntriesTree::new(entries, Ignore::default());
    if let Some(rules) = tree.read(".dockerignore")? {
        tree = tree.ignoring(Ignore::parse(&String::from_utf8_lossy(&rules))?);
    }
    let bytes = tree.read(name)?;
    let bytes = bytes.ok_or_else(|| {
        BuildError::Usage(format!("there is no {name} in the archive of the context"))
    })?;
    Ok(Prepared {
        source: Source {
            text: text(&mut bytes.as_slice(), name)?,
            name: name.to_owned(),
        },
        context: Arc::new(tree),
    })
}
