//! What becomes of entries that are as they should be.

use tar::EntryType;

use super::{Archive, convert_with, converted};
use crate::image::digest::Digest;
use crate::image::erofs::{FileType, Timestamp};
use crate::image::layer::LayerLimits;

#[test]
fn an_empty_layer() {
    for bytes in [Archive::new().bytes(), Vec::new()] {
        let layer = convert_with(&bytes[..], &LayerLimits::default()).unwrap();
        assert_eq!(layer.names("/"), [""; 0]);
        assert_eq!(layer.layer.diff_id, Digest::of(&bytes));
        assert_eq!(layer.layer.blob_digest, Digest::of(&bytes));
        assert_eq!(layer.layer.unpacked_size, bytes.len() as u64);
        assert_eq!(layer.implicit_dirs(), ["/"]);
    }
}

#[test]
fn metadata_is_kept() {
    let layer = converted(
        &Archive::new()
            .dir("./")
            .dir("./etc/")
            .file("./etc/passwd", "root"),
    );
    let root = layer.inode("/");
    assert_eq!((root.mode, root.uid, root.gid), (0o750, 1, 2));
    let file = layer.inode("etc/passwd");
    assert_eq!(
        (file.mode, file.uid, file.gid, file.links),
        (0o644, 1, 2, 1)
    );
    assert_eq!(
        file.mtime,
        Timestamp {
            secs: 1_700_000_000,
            nanos: 0
        }
    );
    assert_eq!(layer.text("etc/passwd"), "root");
    assert_eq!(layer.implicit_dirs(), [""; 0]);
    assert_eq!((layer.layer.entries, layer.layer.content_size), (3, 4));
}

#[test]
fn devices_and_pipes() {
    let layer = converted(
        &Archive::new()
            .device(EntryType::Char, "null", 1, 3)
            .device(EntryType::Block, "disk", 259, 70_000)
            .device(EntryType::Fifo, "pipe", 0, 0),
    );
    assert_eq!(layer.inode("null").device(), Some((1, 3)));
    assert_eq!(layer.inode("disk").device(), Some((259, 70_000)));
    assert_eq!(layer.inode("disk").file_type, FileType::BlockDevice);
    assert_eq!(layer.inode("pipe").file_type, FileType::Fifo);
}

#[test]
fn absolute_paths_are_taken_from_the_root() {
    let layer = converted(
        &Archive::new()
            .file("/a", "1")
            .file("//b/.//c", "2")
            .hard_link("d", "/a"),
    );
    assert_eq!(layer.text("a"), "1");
    assert_eq!(layer.text("b/c"), "2");
    assert_eq!(layer.inode("d").nid, layer.inode("a").nid);
    assert_eq!(layer.inode("a").links, 2);
}

#[test]
fn missing_parents_are_made_and_remembered() {
    let archive = Archive::new()
        .file("a/b/c", "")
        .file("d/e", "")
        .dir("a")
        .dir("f");
    let layer = converted(&archive);
    assert_eq!(layer.implicit_dirs(), ["/", "/a/b", "/d"]);
    let dir = layer.inode("a/b");
    assert_eq!((dir.mode, dir.uid, dir.gid), (0o755, 0, 0));
    assert_eq!(layer.inode("a").mode, 0o750);
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let layer = converted(
        &Archive::new()
            .file("a/.wh.gone", "")
            .file("b/.wh..wh..opq", "")
            .file("b/kept", "")
            .file(".wh..wh.plnk/1.2", "")
            .file(".wh..wh.aufs", ""),
    );
    assert!(layer.inode("a/gone").is_whiteout());
    assert!(layer.is_opaque("b"));
    assert!(!layer.is_opaque("a"));
    assert_eq!(layer.names("b"), ["kept"]);
    assert_eq!(layer.names("/"), ["a", "b"]);
}

#[test]
fn whiteouts_do_not_hide_their_own_layer() {
    let archives = [
        Archive::new()
            .file(".wh.file", "")
            .file(".wh.dir", "")
            .file("file", "1")
            .dir("dir"),
        Archive::new()
            .file("file", "1")
            .dir("dir")
            .file(".wh.file", "")
            .file(".wh.dir", ""),
        Archive::new()
            .file(".wh.file", "")
            .file("file", "1")
            .file(".wh.dir", "")
            .file("dir/x", ""),
    ];
    for archive in archives {
        let layer = converted(&archive);
        assert_eq!(layer.text("file"), "1");
        // What a lower layer has in it stays hidden.
        assert!(layer.is_opaque("dir"));
        assert_eq!(layer.names("/"), ["dir", "file"]);
    }
}

#[test]
fn opaqueness_outlives_later_entries() {
    let layer = converted(&Archive::new().file("d/.wh..wh..opq", "").dir("d").dir("d"));
    assert!(layer.is_opaque("d"));
    assert_eq!(layer.inode("d").mode, 0o750);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let layer = converted(
        &Archive::new()
            .file("a", "old")
            .file("a", "new")
            .dir("d")
            .file("d/x", "")
            .dir("d")
            .dir("gone")
            .file("gone/x", "")
            .file("gone", "file now")
            .file("file", "")
            .dir("file"),
    );
    assert_eq!(layer.text("a"), "new");
    assert_eq!(layer.names("d"), ["x"]);
    assert_eq!(layer.text("gone"), "file now");
    assert_eq!(layer.inode("file").file_type, FileType::Directory);
    // In sequence the file would have replaced the lower layers' directory.
    assert!(layer.is_opaque("file"));
    assert!(!layer.is_opaque("d"));
}

#[test]
fn hard_links_survive_their_target() {
    let layer = converted(
        &Archive::new()
            .file("a", "content")
            .hard_link("b", "./a")
            .hard_link("c", "b")
            .file("a", "other")
            .hard_link("b", "b")
            .symlink("s", "nowhere")
            .hard_link("t", "s"),
    );
    assert_eq!(
        (layer.text("a"), layer.text("b")),
        ("other".into(), "content".into())
    );
    assert_eq!(layer.inode("b").nid, layer.inode("c").nid);
    assert_eq!((layer.inode("a").links, layer.inode("b").links), (1, 2));
    assert_eq!(layer.inode("t").nid, layer.inode("s").nid);
}

#[test]
fn paths_follow_links_of_the_same_layer() {
    let layer = converted(
        &Archive::new()
            .symlink("lib", "usr/lib")
            .file("lib/a", "1")
            .symlink("usr/lib/deep", "../../opt/./x")
            .file("lib/deep/b", "2")
            .hard_link("lib/c", "lib/deep/b")
            .file("lib/.wh.gone", ""),
    );
    assert_eq!(layer.text("usr/lib/a"), "1");
    assert_eq!(layer.text("opt/x/b"), "2");
    assert_eq!(layer.inode("usr/lib/c").nid, layer.inode("opt/x/b").nid);
    assert!(layer.inode("usr/lib/gone").is_whiteout());
    assert_eq!(layer.inode("lib").file_type, FileType::Symlink);
    assert_eq!(
        layer.implicit_dirs(),
        ["/", "/opt", "/opt/x", "/usr", "/usr/lib"]
    );
}

#[test]
fn links_out_of_the_layer_stay_in_it() {
    let layer = converted(
        &Archive::new()
            .symlink("up", "../../../../..")
            .file("up/a", "1")
            .symlink("host", "/etc")
            .file("host/passwd", "2")
            .symlink("twice", "up/host/../tmp")
            .file("twice/b", "3"),
    );
    assert_eq!(layer.text("a"), "1");
    assert_eq!(layer.text("etc/passwd"), "2");
    assert_eq!(layer.text("tmp/b"), "3");
}

#[test]
fn a_directory_entry_replaces_a_link() {
    let layer = converted(&Archive::new().symlink("a", "b").dir("a").file("a/x", ""));
    assert_eq!(layer.names("a"), ["x"]);
    assert!(layer.get("b").is_none());
}

#[test]
fn attributes_are_kept_but_not_those_of_overlayfs() {
    let records: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.user.a", b"1"),
        (
            "SCHILY.xattr.security.capability",
            b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
        ("SCHILY.xattr.system.posix_acl_access", b"\x02\0\0\0"),
        ("SCHILY.xattr.trusted.x", b""),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.btrfs.compression", b"zstd"),
    ];
    let layer = converted(
        &Archive::new()
            .pax(records)
            .file("f", "")
            .pax(records)
            .dir("d"),
    );
    for path in ["f", "d"] {
        let xattrs = layer.reader.xattrs(&layer.inode(path)).unwrap();
        let names: Vec<_> = xattrs
            .keys()
            .map(|name| std::str::from_utf8(name).unwrap())
            .collect();
        let kept = [
            "security.capability",
            "system.posix_acl_access",
            "trusted.x",
            "user.a",
        ];
        assert_eq!(names, kept);
        assert_eq!(xattrs[&b"security.capability"[..]].len(), 20);
    }
}

#[test]
fn names_and_paths_to_the_limits() {
    let name = "n".repeat(255);
    let path = format!("{name}/").repeat(15) + &"x".repeat(4095 - 1 - 15 * 256);
    let target = "t".repeat(4095);
    let layer = converted(
        &Archive::new()
            .long_file(&path, "deep")
            .pax(&[("linkpath", target.as_bytes())])
            .symlink("link", "short"),
    );
    assert_eq!(layer.text(&path), "deep");
    assert_eq!(
        layer.reader.read_link(&layer.inode("link")).unwrap(),
        target.as_bytes()
    );
}

#[test]
fn entries_without_data_have_none_whatever_their_size_says() {
    let mut archive = Archive::new().file("a", "x");
    for kind in [
        EntryType::Link,
        EntryType::Symlink,
        EntryType::Directory,
        EntryType::Fifo,
    ] {
        let mut header = super::archive::header(kind, b"b", 5000);
        header.as_old_mut().linkname[0] = b'a';
        archive = archive.entry(header, b"");
    }
    assert_eq!(converted(&archive.file("c", "end")).text("c"), "end");
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let archive = Archive::new()
        .dir("d")
        .file("d/a", "1")
        .symlink("l", "d")
        .file("d/.wh.x", "");
    let read = || {
        let layer = converted(&archive);
        let mut bytes = vec![0; layer.layer.image_size as usize];
        std::os::unix::fs::FileExt::read_exact_at(&layer.file, &mut bytes, 0).unwrap();
        bytes
    };
    assert!(read() == read());
}

#[test]
fn old_content_of_the_work_file_goes() {
    let archive = Archive::new().file("a", "1");
    let clean = converted(&archive);
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 100_000], 0).unwrap();
    let layer =
        crate::image::layer::convert(&archive.bytes()[..], &file, &LayerLimits::default()).unwrap();
    assert_eq!(layer, clean.layer);
    let read = |file: &std::fs::File| {
        let mut bytes = vec![0; layer.image_size as usize];
        std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 0).unwrap();
        bytes
    };
    assert!(read(&file) == read(&clean.file));
}

#[test]
fn these_bytes_are_kept_for_ever() {
    // Layers in people's stores were written like this: a change needs a new `FORMAT_VERSION`.
    let records: &[(&str, &[u8])] = &[("SCHILY.xattr.user.a", b"1"), ("mtime", b"7.5")];
    let archive = Archive::new()
        .dir("d")
        .file("d/small", "content")
        .pax(records)
        .file("d/large", &"0123456789".repeat(1000))
        .file("d/sparse", &("x".to_owned() + &"\0".repeat(20_000) + "y"))
        .symlink("l", "d")
        .hard_link("h", "d/small")
        .device(EntryType::Char, "null", 1, 3)
        .file("e/.wh.x", "")
        .file("d/.wh..wh..opq", "");
    let layer = converted(&archive);
    let mut bytes = vec![0; layer.layer.image_size as usize];
    std::os::unix::fs::FileExt::read_exact_at(&layer.file, &mut bytes, 0).unwrap();
    assert_eq!(crate::image::erofs::FORMAT_VERSION, 1);
    assert_eq!(
        Digest::of(&bytes).to_string(),
        "sha256:740e174f84065d7446d696ce0e8b8e8e76afc686073ceab699087177f9850d07"
    );
}
