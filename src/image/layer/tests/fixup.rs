//! Directories that upper layers have only implicitly.

use std::collections::BTreeMap;

use super::{Archive, Converted, converted};
use crate::image::erofs::{Metadata, Reader};
use crate::image::layer::fixup::{StackedLayer, fixup_dirs, fixup_layer};

fn stack(layers: &[Converted]) -> Vec<StackedLayer<'_>> {
    let mut stack = Vec::new();
    for Converted { layer, reader, .. } in layers {
        stack.push(StackedLayer {
            reader,
            implicit_dirs: &layer.implicit_dirs,
        });
    }
    stack
}

fn fixed(layers: &[Converted]) -> BTreeMap<String, Metadata> {
    let dirs = fixup_dirs(&stack(layers)).unwrap();
    dirs.into_iter()
        .map(|(path, data)| (String::from_utf8(path).unwrap(), data))
        .collect()
}

fn base() -> Converted {
    let records: &[(&str, &[u8])] = &[("SCHILY.xattr.user.a", b"1")];
    converted(
        &Archive::new()
            .dir("etc")
            .pax(records)
            .dir("etc/x")
            .file("etc/x/f", ""),
    )
}

#[test]
fn what_is_explicit_above_needs_nothing() {
    assert_eq!(fixed(&[]), BTreeMap::new());
    assert_eq!(fixed(&[base()]), BTreeMap::new());
    let upper = converted(&Archive::new().dir("etc").dir("etc/x").file("etc/x/g", ""));
    assert_eq!(fixed(&[base(), upper]), BTreeMap::new());
    // Nobody says what this directory should be like.
    let layers = [
        converted(&Archive::new().file("a/b", "")),
        converted(&Archive::new().file("a/c", "")),
    ];
    assert_eq!(fixed(&layers), BTreeMap::new());
}

#[test]
fn implicit_directories_get_what_is_below() {
    let layers = [base(), converted(&Archive::new().file("etc/x/g", ""))];
    let dirs = fixed(&layers);
    assert_eq!(dirs.keys().collect::<Vec<_>>(), ["", "etc", "etc/x"]);
    assert_eq!((dirs["etc"].mode, dirs["etc"].uid), (0o750, 1));
    assert_eq!(dirs["etc/x"].xattrs[&b"user.a"[..]], b"1");
    let file = tempfile::tempfile().unwrap();
    let size = fixup_layer(&stack(&layers), &file).unwrap().unwrap();
    assert_eq!(file.metadata().unwrap().len(), size);
    // The superblock, directories and attributes.
    assert_eq!(size, 3 * 4096);
    let reader = Reader::open(file).unwrap();
    let dir = reader.lookup(b"etc/x").unwrap().unwrap();
    assert_eq!(
        (dir.mode, dir.uid, dir.gid, dir.mtime.secs),
        (0o750, 1, 2, 1_700_000_000)
    );
    assert_eq!(reader.read_dir(&dir).unwrap(), []);
    assert_eq!(reader.xattrs(&dir).unwrap(), dirs["etc/x"].xattrs);
    let none = tempfile::tempfile().unwrap();
    assert_eq!(fixup_layer(&stack(&layers[..1]), &none).unwrap(), None);
}

#[test]
fn the_nearest_explicit_one_counts() {
    let middle = converted(&Archive::new().file("etc/f", ""));
    let top = converted(&Archive::new().file("etc/x/g", ""));
    let explicit = converted(&Archive::new().dir("etc").dir("etc/x"));
    let dirs = fixed(&[base(), explicit, middle, top]);
    assert_eq!(dirs["etc/x"].xattrs.len(), 0);
    assert_eq!(dirs["etc/x"].mode, 0o750);
}

#[test]
fn what_is_hidden_does_not_count() {
    for hiding in [
        Archive::new().file("etc/.wh..wh..opq", ""),
        Archive::new().file(".wh.etc", "").file("etc/f", ""),
        Archive::new().file("etc", "a file"),
    ] {
        let layers = [
            base(),
            converted(&hiding),
            converted(&Archive::new().file("etc/x/g", "")),
        ];
        assert_eq!(fixed(&layers), BTreeMap::new());
    }
    let whiteout = converted(&Archive::new().dir("etc").file("etc/.wh.x", ""));
    let layers = [
        base(),
        whiteout,
        converted(&Archive::new().file("etc/x/g", "")),
    ];
    assert_eq!(fixed(&layers).keys().collect::<Vec<_>>(), ["", "etc"]);
}

#[test]
fn the_root_is_only_corrected_when_it_matters() {
    let root = |mode: u32| {
        let mut header = super::archive::header(tar::EntryType::Directory, b"./", 0);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        converted(&Archive::new().entry(header, b""))
    };
    let upper = || converted(&Archive::new().file("a", ""));
    assert_eq!(fixed(&[root(0o755), upper()]), BTreeMap::new());
    assert_eq!(fixed(&[root(0o700), upper()])[""].mode, 0o700);
}
