//! Layer stacks: what a guest sees is what `umoci unpack` makes, path by path.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use crate::archive::{Layer, Tree, oci_layout, read_tree, tar_directory};
use crate::harness::Hull;

fn load(hull: &Hull, layers: &[Vec<u8>], name: &str, work: &Path) {
    let layout = oci_layout(&work.join("layout"), name, layers, &["/none"]);
    let tar = work.join("layout.tar");
    tar_directory(&layout, &tar);
    hull.ok(&["load", "-q", "-i", tar.to_str().unwrap()]);
}

/// The files as a guest's overlayfs shows them.
fn from_guest(hull: &Hull, image: &str, work: &Path) -> Tree {
    let id = hull.ok(&["create", image]);
    let tar = work.join("export.tar");
    hull.ok(&["export", "-o", tar.to_str().unwrap(), &id]);
    hull.ok(&["rm", &id]);
    read_tree(File::open(tar).unwrap())
}

/// The files as umoci unpacks them.
fn from_umoci(name: &str, work: &Path) -> Tree {
    let bundle = work.join("bundle");
    let image = format!("{}:{name}", work.join("layout").display());
    let done = Command::new("umoci")
        .args(["unpack", "--keep-dirlinks", "--image", &image])
        .arg(&bundle)
        .output()
        .expect("umoci is installed by make test");
    assert!(done.status.success(), "{done:?}");
    let tar = work.join("umoci.tar");
    let done = Command::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--format=posix",
            "--numeric-owner",
        ])
        .args(["--pax-option=delete=atime,delete=ctime", "-cf"])
        .arg(&tar)
        .arg("-C")
        .arg(bundle.join("rootfs"))
        .arg(".")
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    read_tree(File::open(tar).unwrap())
}

#[track_caller]
fn assert_same(guest: &Tree, umoci: &Tree) {
    // The mount points that every container has, and the root itself.
    let provided = [
        "",
        ".",
        "dev",
        "proc",
        "sys",
        "etc",
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
    ];
    let ours = |path: &&String| !provided.contains(&path.as_str());
    let names = |tree: &Tree| tree.keys().filter(ours).cloned().collect::<BTreeSet<_>>();
    let (a, b) = (names(guest), names(umoci));
    let only: Vec<_> = a.symmetric_difference(&b).take(10).collect();
    assert!(only.is_empty(), "only on one side: {only:?}");
    for path in &a {
        let (left, right) = (&guest[path], &umoci[path]);
        assert_eq!(left, right, "{path}");
    }
}

#[test]
fn every_kind_of_file_reads_back_as_umoci_unpacks_it() {
    let hull = Hull::shared();
    let work = tempfile::tempdir().unwrap();
    let long = "n".repeat(255);
    // Version 2; entries of tag, permissions, id: owner rw, user 1000 r, group r, mask r, other r.
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let acl = [
        2u32.to_le_bytes().to_vec(),
        entry(0x01, 6, u32::MAX),
        entry(0x02, 4, 1000),
        entry(0x04, 4, u32::MAX),
        entry(0x10, 4, u32::MAX),
        entry(0x20, 4, u32::MAX),
    ]
    .concat();
    let bottom = Layer::new()
        .directory("dir", 0o1777)
        .file("dir/file", b"first")
        .file("dir/hidden", b"hidden later")
        .directory("gone", 0o755)
        .file("gone/a", b"a")
        .directory("opaque", 0o700)
        .file("opaque/old", b"old")
        .file_with("owned", b"x", 0o4755, 123_456, &[])
        .file_with(
            "caps",
            b"y",
            0o755,
            0,
            &[(
                "security.capability",
                b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            )],
        )
        .file_with(
            "user",
            b"z",
            0o644,
            0,
            &[("user.note", b"hello\0world"), ("user.empty", b"")],
        )
        .file_with("acl", b"w", 0o644, 0, &[("system.posix_acl_access", &acl)])
        .file("link-source", &vec![7; 10_000])
        .hard_link("link-one", "link-source")
        .hard_link("dir/link-two", "link-source")
        .symlink("absolute", "/dir/file")
        .symlink("dangling", "../../nowhere")
        .fifo("fifo")
        .device("device", 1, 3)
        .file(&format!("dir/{long}"), b"a long name")
        .file("empty", b"")
        .file("block", &vec![1; 4096])
        .file("block-and-one", &vec![2; 4097])
        .file("zeros", &vec![0; 1 << 20])
        .finish();
    let middle = Layer::new()
        .whiteout("dir/hidden")
        .whiteout("gone")
        .directory("opaque", 0o750)
        .opaque("opaque")
        .file("opaque/new", b"new")
        .file("dir/file", b"second, longer")
        .finish();
    let top = Layer::new()
        .directory("gone", 0o711)
        .file("gone/b", b"back again")
        .symlink("empty", "now-a-link")
        .finish();
    load(&hull, &[bottom, middle, top], "kinds:1", work.path());
    assert_same(
        &from_guest(&hull, "kinds:1", work.path()),
        &from_umoci("kinds:1", work.path()),
    );
    hull.ok(&["rmi", "kinds:1"]);
}

#[test]
fn a_hundred_layers_stack() {
    let hull = Hull::shared();
    let work = tempfile::tempdir().unwrap();
    let layers: Vec<_> = (0..100)
        .map(|n| {
            let mut layer = Layer::new()
                .directory("all", 0o755)
                .file(&format!("all/{n}"), format!("{n}").as_bytes())
                .file("top", format!("{n}").as_bytes());
            if n % 10 == 9 {
                layer = layer.whiteout(&format!("all/{}", n - 5));
            }
            layer.finish()
        })
        .collect();
    load(&hull, &layers, "hundred:1", work.path());
    let guest = from_guest(&hull, "hundred:1", work.path());
    assert_eq!(
        guest.keys().filter(|path| path.starts_with("all/")).count(),
        90
    );
    assert_same(&guest, &from_umoci("hundred:1", work.path()));
    hull.ok(&["rmi", "hundred:1"]);
}

#[test]
fn a_hundred_thousand_small_files_read_back() {
    let hull = Hull::shared();
    let work = tempfile::tempdir().unwrap();
    let mut layer = Layer::new();
    for directory in 0..100 {
        layer = layer.directory(&format!("d{directory}"), 0o755);
        for file in 0..1000 {
            let content = format!("{directory}/{file}").repeat(file % 7);
            layer = layer.file(&format!("d{directory}/f{file}"), content.as_bytes());
        }
    }
    load(&hull, &[layer.finish()], "many:1", work.path());
    assert_same(
        &from_guest(&hull, "many:1", work.path()),
        &from_umoci("many:1", work.path()),
    );
    hull.ok(&["rmi", "many:1"]);
}

#[test]
fn directories_that_a_layer_only_mentions_keep_their_attributes() {
    let hull = Hull::shared();
    let work = tempfile::tempdir().unwrap();
    let bottom = Layer::new()
        .directory("tmp", 0o1777)
        .directory("tmp/deep", 0o700)
        .finish();
    // No entries for tmp and tmp/deep here: they are as the layer below made them.
    let top = Layer::new().file("tmp/deep/file", b"x").finish();
    load(&hull, &[bottom, top], "implicit:1", work.path());
    let guest = from_guest(&hull, "implicit:1", work.path());
    assert_eq!(guest["tmp"].mode, 0o1777);
    assert_eq!(guest["tmp/deep"].mode, 0o700);
    assert_same(&guest, &from_umoci("implicit:1", work.path()));
    hull.ok(&["rmi", "implicit:1"]);
}
