//! `cp` between a container and the host: docker's rules of what goes where, and the copying.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use guest_agent::archive::{Owner, Packer, Unpack, unpack};
use guest_agent::protocol::{PathStat, Task};

use super::files::{Files, FilesError};
use super::record::Container;
use crate::store::Store;

/// Why nothing, or not all, was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source is not in the container.
    #[error("Could not find the file {path} in container {container}")]
    NotInContainer {
        /// What was asked for.
        path: String,
        /// Where.
        container: String,
    },
    /// The source is not on the host.
    #[error("cannot read {path}: {source}")]
    NotOnHost {
        /// What was asked for.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A directory in the destination's path is not there.
    #[error("no such directory: {0}")]
    NoDirectory(String),
    /// A path that ends in a slash leads to a file.
    #[error("not a directory: {0}")]
    NotDirectory(String),
    /// A directory cannot become a file.
    #[error("cannot copy directory {0} over a file")]
    OverFile(String),
    /// An archive goes into a directory.
    #[error("destination \"{0}\" must be a directory")]
    ArchiveTarget(String),
    /// The container's files cannot be had.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Writing on the host failed.
    #[error("copying to {path}: {source}")]
    Host {
        /// Where to.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// How to copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// `-a`: keep owners and set-id bits.
    pub archive: bool,
    /// `-L`: copy what a link leads to.
    pub follow_link: bool,
}

/// What is at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Missing,
    File,
    Directory,
}

/// The directory that the archive is unpacked in, and the name of the source in it.
#[derive(Debug, PartialEq, Eq)]
struct Placement {
    directory: String,
    name: String,
}

/// Docker's rules: where the source goes.
fn place(
    source: &str,
    source_is_dir: bool,
    destination: &str,
    target: Target,
) -> Result<Placement, CopyError> {
    if asks_for_directory(source) && !source_is_dir {
        return Err(CopyError::NotDirectory(source.to_owned()));
    }
    let placed = |directory: String, name: String| Ok(Placement { directory, name });
    match target {
        Target::Directory => placed(destination.to_owned(), own_name(source)),
        Target::File if source_is_dir => Err(CopyError::OverFile(source.to_owned())),
        Target::File if asks_for_directory(destination) => {
            Err(CopyError::NotDirectory(destination.to_owned()))
        }
        Target::Missing if !source_is_dir && asks_for_directory(destination) => {
            Err(CopyError::NoDirectory(destination.to_owned()))
        }
        Target::File | Target::Missing => {
            let (directory, name) = split(destination);
            placed(directory, name)
        }
    }
}

/// Whether a path says by its end that it is a directory.
fn asks_for_directory(path: &str) -> bool {
    path.ends_with('/') || path == "." || path.ends_with("/.")
}

/// The name that a source gets inside a directory; `.` when only its content goes there.
fn own_name(source: &str) -> String {
    if source == "." || source.ends_with("/.") {
        return ".".to_owned();
    }
    match split(source).1.as_str() {
        "" | ".." => ".".to_owned(),
        name => name.to_owned(),
    }
}

/// Directory and last name of a path, whatever slashes it ends in.
fn split(path: &str) -> (String, String) {
    let bare = path.trim_end_matches("/.").trim_end_matches('/');
    match bare.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((directory, name)) => (directory.to_owned(), name.to_owned()),
        None if path.starts_with('/') => ("/".to_owned(), String::new()),
        None => (".".to_owned(), bare.to_owned()),
    }
}

/// From the container to the host; returns the bytes of the archive that went over.
pub fn to_host(
    store: &Store,
    container: &Container,
    source: &str,
    destination: &Path,
    options: Options,
) -> Result<u64, CopyError> {
    let found = Source::open(store, container, source, options)?;
    let shown = destination.to_string_lossy().into_owned();
    let target = match fs::metadata(destination) {
        Ok(metadata) if metadata.is_dir() => Target::Directory,
        Ok(_) => Target::File,
        Err(_) => Target::Missing,
    };
    let placement = place(source, found.stat.is_dir(), &shown, target)?;
    let directory =
        File::open(&placement.directory).map_err(|_| CopyError::NoDirectory(shown.clone()))?;
    let mut output = found.files.read(found.task(placement.name))?;
    let mut counted = Counted::new(&mut output);
    let privileged = nix::unistd::geteuid().is_root();
    let how = Unpack {
        owner: match options.archive && privileged {
            true => Owner::Archive,
            false => Owner::Unpacker,
        },
        set_ids: options.archive,
        devices: options.archive && privileged,
    };
    let unpacked = unpack(directory.as_fd(), &mut counted, how);
    let count = counted.count;
    unpacked.map_err(|source| CopyError::Host {
        path: shown,
        source,
    })?;
    output.finish()?;
    Ok(count)
}

/// Something in a container that can be had as an archive.
#[derive(Debug)]
pub struct Source<'a> {
    files: Files<'a>,
    stat: PathStat,
    path: String,
    follow: bool,
}

impl<'a> Source<'a> {
    /// Finds it.
    pub fn open(
        store: &'a Store,
        container: &'a Container,
        path: &str,
        options: Options,
    ) -> Result<Self, CopyError> {
        let files = Files::open(store, container)?;
        let follow = options.follow_link || asks_for_directory(path);
        let stat = find(&files, container, path, follow)?;
        Ok(Self {
            files,
            stat,
            path: path.to_owned(),
            follow,
        })
    }

    /// What it is.
    pub fn stat(&self) -> &PathStat {
        &self.stat
    }

    /// The archive, in which it has its own name; returns its bytes.
    pub fn write_to(&self, out: &mut impl Write) -> Result<u64, CopyError> {
        let task = self.task(own_name(&self.path));
        Ok(self.files.copy_to(task, out)?)
    }

    fn task(&self, name: String) -> Task {
        Task::Archive {
            path: self.path.clone(),
            follow: self.follow,
            name,
        }
    }
}

/// From the container as an archive.
pub fn to_archive(
    store: &Store,
    container: &Container,
    source: &str,
    out: &mut impl Write,
    options: Options,
) -> Result<u64, CopyError> {
    Source::open(store, container, source, options)?.write_to(out)
}

fn find(
    files: &Files<'_>,
    container: &Container,
    path: &str,
    follow: bool,
) -> Result<PathStat, CopyError> {
    let stat = Task::Stat {
        path: path.to_owned(),
        follow,
    };
    let found: Option<PathStat> = files.value(stat)?;
    found.ok_or_else(|| not_in_container(container, path))
}

fn not_in_container(container: &Container, path: &str) -> CopyError {
    CopyError::NotInContainer {
        path: path.to_owned(),
        container: container.name.clone(),
    }
}

/// From the host to the container; returns the bytes of the archive that went over.
pub fn to_container(
    store: &Store,
    container: &Container,
    source: &Path,
    destination: &str,
    options: Options,
) -> Result<u64, CopyError> {
    let shown = source.to_string_lossy().into_owned();
    let missing = |source| CopyError::NotOnHost {
        path: shown.clone(),
        source,
    };
    let mut path = PathBuf::from(source);
    if options.follow_link || asks_for_directory(&shown) {
        path = fs::canonicalize(&path).map_err(missing)?;
    }
    let metadata = fs::symlink_metadata(&path).map_err(missing)?;
    let files = Files::open(store, container)?;
    let target = target_in(&files, destination)?;
    let placement = place(&shown, metadata.is_dir(), destination, target)?;
    if target == Target::Missing && target_in(&files, &placement.directory)? != Target::Directory {
        return Err(not_in_container(container, &placement.directory));
    }
    let mut count = 0;
    let task = Task::Extract {
        directory: placement.directory,
        owners: options.archive,
    };
    files.write(task, |out| {
        let mut counted = Counted::new(out);
        let mut packer = Packer::new(&mut counted, |_| Ok(Vec::new()));
        packer.tree(&path, Path::new(&placement.name))?;
        packer.finish()?;
        count = counted.count;
        Ok(())
    })?;
    files.close()?;
    Ok(count)
}

/// An archive into a directory of the container.
pub fn from_archive(
    store: &Store,
    container: &Container,
    input: &mut impl Read,
    destination: &str,
    options: Options,
) -> Result<u64, CopyError> {
    let files = Files::open(store, container)?;
    match target_in(&files, destination)? {
        Target::Directory => {}
        Target::File => {
            let target = format!("{}:{destination}", container.name);
            return Err(CopyError::ArchiveTarget(target));
        }
        Target::Missing => return Err(not_in_container(container, destination)),
    }
    let mut count = 0;
    let task = Task::Extract {
        directory: destination.to_owned(),
        owners: options.archive,
    };
    files.write(task, |out| {
        count = io::copy(input, out)?;
        Ok(())
    })?;
    files.close()?;
    Ok(count)
}

fn target_in(files: &Files<'_>, path: &str) -> Result<Target, CopyError> {
    let found: Option<PathStat> = files.value(Task::Stat {
        path: path.to_owned(),
        follow: true,
    })?;
    Ok(match found {
        None => Target::Missing,
        Some(found) if found.is_dir() => Target::Directory,
        Some(_) => Target::File,
    })
}

/// Counts what passes.
struct Counted<T> {
    inner: T,
    count: u64,
}

impl<T> Counted<T> {
    fn new(inner: T) -> Self {
        Self { inner, count: 0 }
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_go_where_docker_puts_them() {
        use Target::{Directory, File, Missing};
        for (source, is_dir, destination, target, expected) in [
            ("/a/f", false, "/d", Directory, Some(("/d", "f"))),
            ("/a/f", false, "/d/g", Missing, Some(("/d", "g"))),
            ("/a/f", false, "g", Missing, Some((".", "g"))),
            ("/a/f", false, "/g", File, Some(("/", "g"))),
            ("/a/f", false, "/d/", Missing, None),
            ("/a/f", false, "/d/", File, None),
            ("/a/f/", false, "/d", Directory, None),
            ("/a/d", true, "/d", Directory, Some(("/d", "d"))),
            ("/a/d/", true, "/d", Directory, Some(("/d", "d"))),
            ("/a/d/.", true, "/d", Directory, Some(("/d", "."))),
            (".", true, "/d", Directory, Some(("/d", "."))),
            ("/", true, "/d", Directory, Some(("/d", "."))),
            ("/a/d", true, "/new", Missing, Some(("/", "new"))),
            ("/a/d/.", true, "/d/new/", Missing, Some(("/d", "new"))),
            ("/a/d", true, "/f", File, None),
        ] {
            let placed = place(source, is_dir, destination, target).ok();
            let expected = expected.map(|(directory, name)| Placement {
                directory: directory.to_owned(),
                name: name.to_owned(),
            });
            assert_eq!(placed, expected, "{source} to {destination}");
        }
    }
}
