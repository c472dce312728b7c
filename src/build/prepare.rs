//! From what the command line names to a Dockerfile's text and the files to copy from.

use std::fs;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copy;
use super::dockerfile::Source;
use super::files::{Context, EntriesTree, Ignore, SharedTree, Tree, read_small};
use super::layer::Entries;
use super::remote::git::{self, Address};
use super::remote::{self, Login, Wanted};
use super::{BuildError, NamedContext};
use crate::store::Store;

/// The largest Dockerfile.
const MAX_DOCKERFILE: u64 = 16 << 20;

/// The longest `.dockerignore`.
const MAX_IGNORE: u64 = 1 << 20;
/// What Dockerfiles are called, the usual name first.
const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// Where a build comes from.
#[derive(Debug)]
pub struct Prepared {
    /// The Dockerfile.
    pub source: Source,
    /// The context.
    pub context: SharedTree,
}

/// What the command line says of where a build comes from.
#[derive(Debug, Clone, Copy)]
pub struct Location<'a> {
    /// A directory, the address of a repository, an archive or a Dockerfile, or `-` for an archive
    /// or a Dockerfile on the standard input.
    pub context: &'a str,
    /// The Dockerfile, where it is not in its usual place.
    pub file: Option<&'a str>,
    /// Whether a repository's history comes along.
    pub keep_git_dir: bool,
    /// The most bytes to download.
    pub limit: u64,
}

/// Finds Dockerfile and context.
pub fn prepare(store: &Store, location: Location<'_>) -> Result<Prepared, BuildError> {
    let Location { context, file, .. } = location;
    if let Some(url) = repository(context) {
        let address = Address::parse(&url).map_err(BuildError::Usage)?;
        let wanted = Wanted {
            login: Login::User,
            keep_git_dir: location.keep_git_dir,
            ..Wanted::default()
        };
        let found = git::fetch(store, &address, &wanted).map_err(BuildError::Usage)?;
        return from_entries(found, file, &format!("the repository {context}"));
    }
    if remote::is_url(context) {
        let fetched = remote::fetch(store, context, location.limit).map_err(BuildError::Usage)?;
        let input = fetched.file.file().try_clone().and_then(|mut input| {
            input.rewind()?;
            Ok(input)
        });
        let input = input.map_err(|error| BuildError::Io(format!("read {context}"), error))?;
        return from_stream(store, Box::new(input), file, context);
    }
    if context == "-" {
        if file == Some("-") {
            let message = "the standard input cannot be the context and the Dockerfile at once";
            return Err(BuildError::Usage(message.to_owned()));
        }
        return from_stream(store, Box::new(io::stdin()), file, "the standard input");
    }
    let root = PathBuf::from(context);
    let metadata = fs::metadata(&root).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BuildError::Usage(format!(
            "unable to prepare context: path {context:?} not found"
        )),
        _ => BuildError::Io(format!("read the build context {context}"), error),
    })?;
    if !metadata.is_dir() {
        let message = format!(
            "unable to prepare context: {context:?} is not a directory; name a Dockerfile with -f"
        );
        return Err(BuildError::Usage(message));
    }
    let tree = Context::new(root.clone(), Ignore::default());
    let (source, beside) = match file {
        Some("-") => (from_input()?, None),
        Some(file) => (read(Path::new(file))?, Some(format!("{file}.dockerignore"))),
        None => (within(&tree, &[], &format!("in {context}"))?, None),
    };
    let rules = match beside.map(fs::read) {
        Some(Ok(rules)) => Some(rules),
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
            return Err(BuildError::Io("read the .dockerignore".to_owned(), error));
        }
        _ => ignore_file(&tree, &source.name)?,
    };
    let ignore = ignore(rules)?;
    Ok(Prepared {
        source,
        context: Arc::new(Context::new(root, ignore)),
    })
}

/// The Dockerfile of a context, wherever that is: no link leads out of it.
fn within(tree: &dyn Tree, names: &[&str], place: &str) -> Result<Source, BuildError> {
    let names = if names.is_empty() { &NAMES[..] } else { names };
    for name in names {
        if let Some(bytes) = read_small(tree, name, MAX_DOCKERFILE)? {
            return Ok(Source {
                text: text(&mut bytes.as_slice(), name)?,
                name: (*name).to_owned(),
            });
        }
    }
    let name = names.first().copied().unwrap_or_default();
    Err(BuildError::Usage(format!(
        "there is no {name} {place}, name one with -f"
    )))
}

/// The rules of a context for this Dockerfile.
fn ignore_file(tree: &dyn Tree, dockerfile: &str) -> Result<Option<Vec<u8>>, BuildError> {
    let own = read_small(tree, &format!("{dockerfile}.dockerignore"), MAX_IGNORE)?;
    Ok(match own {
        Some(rules) => Some(rules),
        None => read_small(tree, ".dockerignore", MAX_IGNORE)?,
    })
}

fn ignore(rules: Option<Vec<u8>>) -> Result<Ignore, BuildError> {
    let Some(rules) = rules else {
        return Ok(Ignore::default());
    };
    if rules.len() as u64 > MAX_IGNORE {
        let message = "the .dockerignore is too long, the limit is 1 MiB";
        return Err(BuildError::Usage(message.to_owned()));
    }
    Ok(Ignore::parse(&String::from_utf8_lossy(&rules))?)
}

/// The value of `--build-context NAME=…`.
pub fn named_context(store: &Store, value: &str, limit: u64) -> Result<NamedContext, BuildError> {
    if let Some(name) = value.strip_prefix("docker-image://") {
        return Ok(NamedContext::Image(name.to_owned()));
    }
    if let Some(url) = repository(value) {
        let address = Address::parse(&url).map_err(BuildError::Usage)?;
        let wanted = Wanted {
            login: Login::User,
            ..Wanted::default()
        };
        let found = git::fetch(store, &address, &wanted).map_err(BuildError::Usage)?;
        let tree = EntriesTree::new(found, Ignore::default());
        return Ok(NamedContext::Files(Arc::new(tree)));
    }
    if remote::is_url(value) {
        let failed = |error| BuildError::Io(format!("read {value}"), error);
        let fetched = remote::fetch(store, value, limit).map_err(BuildError::Usage)?;
        let mut input = fetched.file.file().try_clone().map_err(failed)?;
        input.rewind().map_err(failed)?;
        let spool = store.temp_file("context")?;
        let spool = spool.file().try_clone().map_err(failed)?;
        let entries = copy::read_archive(Box::new(input), value, spool)?;
        let tree = EntriesTree::new(entries, Ignore::default());
        return Ok(NamedContext::Files(Arc::new(tree)));
    }
    let root = PathBuf::from(value);
    if !root.is_dir() {
        return Err(BuildError::Usage(format!(
            "--build-context: {value} is no directory, use a directory, the address of a repository or an archive, or docker-image://NAME"
        )));
    }
    let tree = Context::new(root.clone(), Ignore::default());
    let ignore = ignore(read_small(&tree, ".dockerignore", MAX_IGNORE)?)?;
    Ok(NamedContext::Files(Arc::new(Context::new(root, ignore))))
}

/// The address of the repository that a context names.
fn repository(context: &str) -> Option<String> {
    // As docker, which knows this one host by name.
    match context.starts_with("github.com/") {
        true => Some(format!("https://{context}")),
        false => remote::is_git(context).then(|| context.to_owned()),
    }
}

/// A Dockerfile on the standard input.
fn from_input() -> Result<Source, BuildError> {
    Ok(Source {
        name: "-".to_owned(),
        text: text(&mut io::stdin().lock(), "the standard input")?,
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

/// A Dockerfile alone, or an archive with one in it; `what` is where it comes from.
pub fn from_stream(
    store: &Store,
    mut input: Box<dyn Read + Send>,
    file: Option<&str>,
    what: &str,
) -> Result<Prepared, BuildError> {
    let failed = |error| BuildError::Io(format!("read {what}"), error);
    let mut head = Vec::new();
    let begin = (&mut input).take(512).read_to_end(&mut head);
    begin.map_err(failed)?;
    // What is not text is an archive.
    let is_text = !head.contains(&0) && !copy::is_compressed(&head);
    let mut whole = io::Cursor::new(head).chain(input);
    if is_text {
        if file.is_some_and(|file| file != "-") {
            let message = format!("{what} is a Dockerfile, so -f cannot name another");
            return Err(BuildError::Usage(message));
        }
        let name = match what {
            "the standard input" => "-",
            what => what,
        };
        return Ok(Prepared {
            source: Source {
                name: name.to_owned(),
                text: text(&mut whole, what)?,
            },
            context: Arc::new(EntriesTree::default()),
        });
    }
    let spool = store.temp_file("context")?;
    let spool = spool.file().try_clone().map_err(failed)?;
    let entries = copy::read_archive(Box::new(whole), "the context", spool)?;
    from_entries(entries, file, &format!("the archive on {what}"))
}

/// Files that are nowhere on this machine.
fn from_entries(entries: Entries, file: Option<&str>, place: &str) -> Result<Prepared, BuildError> {
    // The rules are for what is copied, not for the Dockerfile and for themselves.
    let tree = EntriesTree::new(entries, Ignore::default());
    let source = match file {
        Some("-") => from_input()?,
        Some(file) => within(&tree, &[file], &format!("in {place}"))?,
        None => within(&tree, &[], &format!("in {place}"))?,
    };
    let ignore = ignore(ignore_file(&tree, &source.name)?)?;
    Ok(Prepared {
        source,
        context: Arc::new(tree.ignoring(ignore)),
    })
}
