//! A commit's files, read from git's objects.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;

use super::git::{Address, Git, Wanted, fetch};
use crate::build::layer::{Content, Entries, Entry, Kind};
use crate::image::erofs::{MAX_NAME, Xattrs};
use crate::store::Store;

/// The most files and directories of one repository.
const MAX_FILES: usize = 2_000_000;
/// The most bytes of one repository's files.
const MAX_BYTES: u64 = 16 << 30;
/// The longest target of a symbolic link.
const MAX_LINK: u64 = 4096;
/// The most repositories in a repository.
const MAX_SUBMODULES: usize = 100;
/// How deep they may lie in each other.
const MAX_DEPTH: u32 = 5;
/// The longest address of one, so that relative ones in each other come to an end.
const MAX_URL: usize = 2000;

/// The files of a commit, with those of its submodules.
pub fn read(store: &Store, git: &Git<'_>, commit: &str) -> Result<Entries, String> {
    let directory = &git.address.directory;
    let tree = match directory.as_str() {
        "" => commit.to_owned(),
        directory => format!("{commit}:{directory}"),
    };
    let listed = git.run(&[
        "ls-tree",
        "-r",
        "-z",
        "--full-tree",
        "--end-of-options",
        &tree,
    ]);
    let listed = listed.map_err(|error| match directory.as_str() {
        "" => error,
        directory => format!("there is no directory {directory} in it"),
    })?;
    let mut entries = Entries::default();
    let (mut blobs, mut links) = (Vec::new(), Vec::new());
    for line in listed.split(|b| *b == 0).filter(|line| !line.is_empty()) {
        let listed = Listed::parse(line)?;
        if entries.0.len() + blobs.len() > MAX_FILES {
            return Err(format!("it has more than {MAX_FILES} files"));
        }
        parents(&mut entries, &listed.path);
        match listed.mode {
            "100644" | "100664" | "100755" | "120000" => blobs.push(listed),
            "160000" => {
                entries.0.insert(listed.path.clone(), directory_entry());
                links.push(listed);
            }
            mode => return Err(format!("it has a file of an unknown kind ({mode})")),
        }
    }
    contents(store, git, &blobs, &mut entries)?;
    if !links.is_empty() {
        submodules(store, git, commit, &links, &mut entries)?;
    }
    if git.wanted.keep_git_dir && directory.is_empty() {
        history(store, git, commit, &mut entries)?;
    }
    Ok(entries)
}

/// A line of a tree's list.
struct Listed<'a> {
    mode: &'a str,
    object: &'a str,
    path: Vec<u8>,
}

impl<'a> Listed<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, String> {
        let garbage = || "git's list of it cannot be read".to_owned();
        let tab = line.iter().position(|b| *b == b'\t').ok_or_else(garbage)?;
        let (head, path) = (&line[..tab], &line[tab + 1..]);
        let head = std::str::from_utf8(head).map_err(|_| garbage())?;
        let mut words = head.split(' ');
        let (Some(mode), Some(_), Some(object)) = (words.next(), words.next(), words.next()) else {
            return Err(garbage());
        };
        let bad = |name: &[u8]| {
            let special = matches!(name, b"" | b"." | b"..") || name.eq_ignore_ascii_case(b".git");
            special || name.len() > MAX_NAME
        };
        if path.split(|b| *b == b'/').any(bad) {
            let path = String::from_utf8_lossy(path);
            return Err(format!("it has a file of an impossible name: {path:?}"));
        }
        Ok(Self {
            mode,
            object,
            path: path.to_vec(),
        })
    }
}

fn entry(kind: Kind, mode: u32) -> Entry {
    Entry {
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: i64::MAX,
        xattrs: Xattrs::new(),
    }
}

fn directory_entry() -> Entry {
    Entry::directory(i64::MAX)
}

/// Makes the directories above a path.
fn parents(entries: &mut Entries, path: &[u8]) {
    for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
        let parent = path[..at].to_vec();
        entries.0.entry(parent).or_insert_with(directory_entry);
    }
}

/// Reads the blobs into one file.
fn contents(
    store: &Store,
    git: &Git<'_>,
    blobs: &[Listed<'_>],
    entries: &mut Entries,
) -> Result<(), String> {
    if blobs.is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| format!("reading its files: {error}");
    let spool = store.temp_file("git").map_err(|error| error.to_string())?;
    // It stays as long as somebody reads it.
    let spool = Arc::new(spool.file().try_clone().map_err(failed)?);
    let mut child = git.spawn(&["cat-file", "--batch"])?;
    let (Some(mut asking), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("git has no pipes".to_owned());
    };
    let mut answers = BufReader::with_capacity(128 << 10, answers);
    let read = std::thread::scope(|scope| {
        let asked = scope.spawn(move || {
            blobs
                .iter()
                .try_for_each(|blob| writeln!(asking, "{}", blob.object))
        });
        let mut at = 0;
        let mut read = || -> Result<(), String> {
            for blob in blobs {
                let size = header(&mut answers, blob)?;
                if at + size > MAX_BYTES {
                    return Err(format!("its files have more than {MAX_BYTES} bytes"));
                }
                let mut content = (&mut answers).take(size);
                let kind = if blob.mode == "120000" {
                    let mut target = Vec::new();
                    if size == 0 || size > MAX_LINK {
                        return Err("it has a symbolic link that leads nowhere".to_owned());
                    }
                    content.read_to_end(&mut target).map_err(failed)?;
                    Kind::Symlink(target)
                } else {
                    let count = io::copy(&mut content, &mut &*spool).map_err(failed)?;
                    if count != size {
                        return Err("git ended early".to_owned());
                    }
                    let from = at;
                    at += size;
                    Kind::File(size, Content::Slice(Arc::clone(&spool), from))
                };
                answers.read_exact(&mut [0]).map_err(failed)?;
                let mode = match blob.mode {
                    "120000" => 0o777,
                    "100755" => 0o755,
                    _ => 0o644,
                };
                entries.0.insert(blob.path.clone(), entry(kind, mode));
            }
            Ok(())
        };
        let read = read();
        // Lets the other thread come to its end, whatever is left.
        drop(answers);
        match asked.join() {
            Ok(asked) => read.and(asked.map_err(failed)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    // What matters is whether all was read.
    let _ = child.wait();
    read
}

/// The size of the next blob.
fn header(answers: &mut impl BufRead, blob: &Listed<'_>) -> Result<u64, String> {
    let mut line = Vec::new();
    let mut limited = answers.take(200);
    limited
        .read_until(b'\n', &mut line)
        .map_err(|error| format!("reading its files: {error}"))?;
    let line = String::from_utf8_lossy(&line);
    let mut words = line.trim_end().split(' ');
    let size = match (words.next(), words.next(), words.next()) {
        (Some(object), Some("blob"), Some(size)) if object == blob.object => size.parse().ok(),
        _ => None,
    };
    size.ok_or_else(|| {
        let path = String::from_utf8_lossy(&blob.path);
        format!("the content of {path:?} is missing")
    })
}

/// Fetches the repositories that stand in this one.
fn submodules(
    store: &Store,
    git: &Git<'_>,
    commit: &str,
    links: &[Listed<'_>],
    entries: &mut Entries,
) -> Result<(), String> {
    if links.len() > MAX_SUBMODULES || git.wanted.depth >= MAX_DEPTH {
        return Err(format!(
            "it has more than {MAX_SUBMODULES} submodules, or more than {MAX_DEPTH} in each other"
        ));
    }
    let known = known_submodules(git, commit);
    for link in links {
        let path = match git.address.directory.as_str() {
            "" => link.path.clone(),
            directory => [directory.as_bytes(), b"/", &link.path].concat(),
        };
        // As git: what no address is known of stays an empty directory.
        let Some(url) = known.get(&path) else {
            continue;
        };
        let url = absolute(&git.address.url, url)?;
        let address = Address::parse(&format!("{url}#{}", link.object))?;
        let wanted = Wanted {
            keep_git_dir: false,
            commit: None,
            depth: git.wanted.depth + 1,
            // The header is for another place, unless it is the same host.
            header: git
                .wanted
                .header
                .clone()
                .filter(|_| host(&url) == host(&git.address.url)),
            ..git.wanted.clone()
        };
        let inner = fetch(store, &address, &wanted)?;
        for (inner, entry) in inner.0 {
            let path = [&link.path, &b"/"[..], &inner].concat();
            entries.0.insert(path, entry);
        }
        if entries.0.len() > MAX_FILES {
            return Err(format!("it has more than {MAX_FILES} files"));
        }
    }
    Ok(())
}

/// The addresses of submodules, by their paths.
fn known_submodules(git: &Git<'_>, commit: &str) -> BTreeMap<Vec<u8>, String> {
    let blob = format!("--blob={commit}:.gitmodules");
    let pattern = r"^submodule\..*\.(path|url)$";
    // Without that file nothing is known.
    let said = git.run(&["config", "-z", &blob, "--get-regexp", pattern]);
    let said = said.unwrap_or_default();
    let (mut paths, mut urls) = (BTreeMap::new(), BTreeMap::new());
    for line in said.split(|b| *b == 0) {
        let Some(end) = line.iter().position(|b| *b == b'\n') else {
            continue;
        };
        let (key, value) = (&line[..end], &line[end + 1..]);
        if let Some(name) = key.strip_suffix(b".path") {
            paths.insert(name, value.to_vec());
        } else if let Some(name) = key.strip_suffix(b".url") {
            urls.insert(name, String::from_utf8_lossy(value).into_owned());
        }
    }
    paths
        .into_iter()
        .filter_map(|(name, path)| Some((path, urls.remove(name)?)))
        .collect()
}

/// A submodule's address, which may be relative to its parent's.
fn absolute(base: &str, url: &str) -> Result<String, String> {
    if url.contains('#') || url.len() > MAX_URL {
        return Err(format!(
            "it has a submodule of an impossible address: {url:?}"
        ));
    }
    if !(url.starts_with("./") || url.starts_with("../")) {
        return Ok(url.to_owned());
    }
    let (mut base, mut rest) = (base.trim_end_matches('/').to_owned(), url);
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            let end = base.rfind(['/', ':']).unwrap_or(0);
            if base[..end].is_empty() || base[..end].ends_with('/') {
                return Err(format!("it has a submodule outside of its host: {url:?}"));
            }
            base.truncate(end);
            rest = after;
        } else {
            break;
        }
    }
    let whole = format!("{base}/{rest}");
    match whole.len() > MAX_URL {
        true => Err(format!(
            "it has a submodule of an impossible address: {url:?}"
        )),
        false => Ok(whole),
    }
}

fn host(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let end = scheme.len() + 3 + rest.find('/').unwrap_or(rest.len());
    url.get(..end)
}

/// The history as far as it was fetched, in a form that depends on the commit alone.
fn history(
    store: &Store,
    git: &Git<'_>,
    commit: &str,
    entries: &mut Entries,
) -> Result<(), String> {
    git.run(&["update-ref", "--no-deref", "HEAD", commit])?;
    git.run(&["repack", "-q", "-a", "-d", "-f"])?;
    let index = git.directory().join("index");
    git.run_with(&["read-tree", "HEAD"], &[("GIT_INDEX_FILE", &index)])?;
    let url = git.address.url.replace(['"', '\\', '\n'], "");
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n[remote \"origin\"]\n\turl = {url}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    );
    let text = |text: &str| {
        let bytes: Arc<[u8]> = Arc::from(text.as_bytes());
        entry(Kind::File(bytes.len() as u64, Content::Bytes(bytes)), 0o644)
    };
    for path in [
        ".git",
        ".git/objects",
        ".git/objects/pack",
        ".git/objects/info",
        ".git/refs",
    ] {
        entries.0.insert(path.into(), directory_entry());
    }
    entries
        .0
        .insert(".git/HEAD".into(), text(&format!("{commit}\n")));
    entries.0.insert(".git/config".into(), text(&config));
    let failed = |error: io::Error| format!("reading its history: {error}");
    let mut files = vec![("index".to_owned(), index)];
    let shallow = git.directory().join("shallow");
    if shallow.exists() {
        files.push(("shallow".to_owned(), shallow));
    }
    for file in fs::read_dir(git.directory().join("objects/pack")).map_err(failed)? {
        let file = file.map_err(failed)?;
        let name = file.file_name().to_string_lossy().into_owned();
        if name.ends_with(".pack") || name.ends_with(".idx") {
            files.push((format!("objects/pack/{name}"), file.path()));
        }
    }
    for (name, path) in files {
        let spool = store.temp_file("git").map_err(|error| error.to_string())?;
        let mut from = File::open(path).map_err(failed)?;
        let size = io::copy(&mut from, &mut spool.file()).map_err(failed)?;
        let file = spool.file().try_clone().map_err(failed)?;
        let content = Content::Slice(Arc::new(file), 0);
        let mode = if name.starts_with("objects") {
            0o444
        } else {
            0o644
        };
        let path = format!(".git/{name}").into_bytes();
        entries
            .0
            .insert(path, entry(Kind::File(size, content), mode));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for path in ["../x", "a/../b", "a//b", ".git/hooks/x", "a/.GIT", "."] {
            let line = format!("100644 blob 0123\t{path}");
            assert!(Listed::parse(line.as_bytes()).is_err(), "{path}");
        }
        let listed = Listed::parse(b"100755 blob 0123\ta/.gitignore\xff").unwrap();
        assert_eq!((listed.mode, listed.object), ("100755", "0123"));
    }

    #[test]
    fn relative_submodules_stay_on_their_host() {
        let base = "https://h/a/b.git";
        assert_eq!(absolute(base, "../c.git").unwrap(), "https://h/a/c.git");
        assert_eq!(absolute(base, "./../../c").unwrap(), "https://h/c");
        assert_eq!(absolute("git@h:a/b", "../c").unwrap(), "git@h:a/c");
        assert_eq!(absolute(base, "https://i/x").unwrap(), "https://i/x");
        for bad in ["../../../c", "../../../../c", "https://h/x#--y"] {
            assert!(absolute(base, bad).is_err(), "{bad}");
        }
        assert_eq!(host(base), Some("https://h"));
    }

    proptest! {
        #[test]
        fn any_list_is_read_without_a_panic(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Listed::parse(&line);
        }
    }
}
