use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::build::files::{Context, EntriesTree, Tree};
use crate::build::layer::{Entries, Entry};
use crate::image::erofs::Xattrs;

fn entry(kind: Kind) -> Entry {
    Entry {
        kind,
        mode: 0o750,
        uid: 5,
        gid: 6,
        mtime: 7,
        xattrs: Xattrs::new(),
    }
}

/// An image with some files.
fn image() -> EntriesTree {
    let file = || Kind::File(0, Content::Bytes(Arc::from(&b""[..])));
    let files = [
        ("etc", Kind::Directory),
        ("etc/passwd", file()),
        ("usr", Kind::Directory),
        ("usr/lib", Kind::Directory),
        ("lib", Kind::Symlink(b"usr/lib".to_vec())),
        ("out", Kind::Symlink(b"../../etc".to_vec())),
        ("loop", Kind::Symlink(b"loop".to_vec())),
    ];
    let entries = files.map(|(path, kind)| (path.as_bytes().to_vec(), entry(kind)));
    EntriesTree::new(Entries(BTreeMap::from(entries)), Ignore::default())
}

fn options(destination: &str) -> Options {
    Options {
        place: "the context".to_owned(),
        destination: destination.to_owned(),
        working_dir: "/w".to_owned(),
        mode: None,
        exclude: Ignore::default(),
        parents: false,
        unpack: true,
    }
}

fn copied(root: &Path, sources: &[&str], options: &Options) -> Result<Entries, CopyError> {
    let context: SharedTree = Arc::new(Context::new(root.to_owned(), Ignore::default()));
    let image = image();
    let mut placer = Placer::new(Some(&image), Some((0, 0)), 1000);
    let sources: Vec<Source> = sources
        .iter()
        .map(|source| Source::Path(Arc::clone(&context), (*source).to_owned()))
        .collect();
    copy(&mut placer, &sources, options, &|| tempfile::tempfile())?;
    Ok(placer.finish())
}

fn names_of(entries: &Entries) -> String {
    let names = entries
        .0
        .keys()
        .map(|name| String::from_utf8_lossy(name).into_owned());
    names.collect::<Vec<_>>().join(" ")
}

fn sample() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for path in ["f", "g", "d/x", "d/sub/y", "lib/z", "m/.wh.mark"] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "content").unwrap();
    }
    dir
}

#[test]
fn files_and_directories_are_placed() {
    let dir = sample();
    for (sources, destination, expected) in [
        (&["f"][..], "/new", "new"),
        (&["f"], "/new/", "new new/f"),
        (&["f"], "/etc", "etc etc/f"),
        (&["f"], "rel", "w w/rel"),
        (&["f"], ".", "w w/f"),
        (&["f"], "/lib/", "usr usr/lib usr/lib/f"),
        (&["f"], "/lib", "usr usr/lib usr/lib/f"),
        (&["f"], "/out/f", "etc etc/f"),
        (&["f", "g"], "/new/", "new new/f new/g"),
        (&["d"], "/new", "new new/sub new/sub/y new/x"),
        (&["d/."], "/", "sub sub/y x"),
        (&["[fg]"], "/new/", "new new/f new/g"),
        (&["../../f"], "/", "f"),
    ] {
        let entries = copied(dir.path(), sources, &options(destination)).unwrap();
        assert_eq!(names_of(&entries), expected, "{sources:?} {destination}");
    }
    // What the image has stays as it is; what is new is root's.
    let entries = copied(dir.path(), &["f"], &options("/etc/new/f")).unwrap();
    let known = |path: &str| {
        let entry = &entries.0[path.as_bytes()];
        (entry.mode, entry.uid)
    };
    assert_eq!(known("etc"), (0o750, 0));
    assert_eq!(known("etc/new"), (0o755, 0));
}

#[test]
fn what_cannot_be_is_refused() {
    let dir = sample();
    for (sources, destination, expected) in [
        (&["none"][..], "/x", "none: not found in the context"),
        (&["n*"], "/x/", "nothing in the context matches n*"),
        (&["f", "g"], "/x", "must be a directory"),
        (
            &["d"],
            "/etc/passwd",
            "cannot copy a directory to /etc/passwd",
        ),
        (&["f"], "/etc/passwd/x", "not a directory"),
        (&["."], "/", "cannot copy a directory to /lib"),
        (&["f"], "/loop", "too many levels"),
        (&["m/.wh.mark"], "/x/", ".wh."),
        (&["f/x"], "/x", "not found"),
    ] {
        match copied(dir.path(), sources, &options(destination)) {
            Ok(entries) => panic!("{sources:?} {destination}: {}", names_of(&entries)),
            Err(error) => {
                let error = error.to_string();
                assert!(
                    error.contains(expected),
                    "{sources:?} {destination}: {error}"
                );
            }
        }
    }
}

fn archive(members: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        header.set_uid(3);
        header.set_gid(4);
        header.set_mtime(99);
        let bytes = name.as_bytes();
        header.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.set_link_name_literal(content).unwrap();
            header.set_size(0);
            header.set_cksum();
            builder.append(&header, &b""[..]).unwrap();
        } else {
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

#[test]
fn archives_are_unpacked_inside() {
    use tar::EntryType::{Link, Regular, Symlink};
    let dir = tempfile::tempdir().unwrap();
    let write = |members: &[_]| fs::write(dir.path().join("a.tar"), archive(members)).unwrap();
    write(&[
        ("f", Regular, "1"),
        ("l", Link, "f"),
        ("s", Symlink, "/etc"),
        ("s/g", Regular, "2"),
    ]);
    let entries = copied(dir.path(), &["a.tar"], &options("/new/")).unwrap();
    assert_eq!(names_of(&entries), "etc etc/g new new/f new/l new/s");
    assert!(matches!(&entries.0[&b"new/l"[..]].kind, Kind::Link(first) if first == b"new/f"));
    for bad in ["../x", "a/../../x"] {
        write(&[(bad, Regular, "1")]);
        let error = copied(dir.path(), &["a.tar"], &options("/new/")).unwrap_err();
        assert!(error.to_string().contains("leads out"), "{error}");
    }
    // What only begins like an archive is a file.
    fs::write(dir.path().join("a.tar"), "plain").unwrap();
    let entries = copied(dir.path(), &["a.tar"], &options("/new/")).unwrap();
    assert_eq!(names_of(&entries), "new new/a.tar");
}

proptest! {
    #[test]
    fn any_archive_is_read_without_a_panic(
        at in 0usize..3000, byte: u8, cut in 0usize..3000
    ) {
        use tar::EntryType::{Link, Regular, Symlink};
        let mut bytes = archive(&[("d/f", Regular, "12345"), ("s", Symlink, "d"), ("s/x", Link, "d/f")]);
        let count = bytes.len();
        bytes[at % count] = byte;
        bytes.truncate(count - cut % count);
        let spool = tempfile::tempfile().unwrap();
        if let Ok(entries) = read_archive(Box::new(io::Cursor::new(bytes)), "x", spool) {
            for path in entries.0.keys() {
                prop_assert!(!path.starts_with(b"/") && !path.split(|b| *b == b'/').any(|name| name == b".."));
            }
            let tree = EntriesTree::new(entries, Ignore::default());
            tree.children(&tree.root().unwrap()).unwrap();
        }
    }
}
