//! What is refused, and that the message says why.

use std::io::{self, Read};

use tar::EntryType;

use super::archive::header;
use super::{Archive, convert_with, refusal, refusal_with};
use crate::image::layer::LayerLimits;

#[track_caller]
fn assert_refused(archive: &Archive, parts: &[&str]) {
    let message = refusal(archive);
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn paths_that_lead_out() {
    for path in ["../a", "a/../../b", "a/..", "..", "/.."] {
        assert_refused(&Archive::new().file(path, ""), &[path, "contains `..`"]);
    }
    assert_refused(
        &Archive::new().file("a", "").hard_link("b", "../a"),
        &["\"b\"", "`..`"],
    );
}

#[test]
fn names_that_are_too_long() {
    let archive = Archive::new().long_file(&"n".repeat(256), "");
    assert_refused(&archive, &["nnn", "256 bytes, at most 255"]);
    let long = "a/".repeat(2048);
    assert_refused(
        &Archive::new().long_file(&long, ""),
        &["more than 4095 bytes"],
    );
    assert_refused(
        &Archive::new().long_file(&"/".repeat(9000), ""),
        &["more than 4095 bytes"],
    );
    let doubled = Archive::new()
        .pax(&[("linkpath", "d/".repeat(1000).as_bytes())])
        .symlink("l", "x")
        .long_file(&("l/".to_owned() + &"e/".repeat(1500)), "");
    assert_refused(&doubled, &["more than 4095 bytes"]);
    let target = Archive::new()
        .pax(&[("linkpath", &[b't'; 4096])])
        .symlink("l", "x");
    assert_refused(&target, &["\"l\"", "4095"]);
    let name = Archive::new()
        .pax(&[("linkpath", &[b't'; 300])])
        .symlink("l", "x")
        .file("l/a", "");
    assert_refused(&name, &["300 bytes, at most 255"]);
}

#[test]
fn zero_bytes_in_paths() {
    let archive = Archive::new().pax(&[("path", b"a\0b")]).file("x", "");
    assert_refused(&archive, &["\"a\\0b\"", "zero byte"]);
    let archive = Archive::new()
        .pax(&[("linkpath", b"a\0b")])
        .symlink("x", "");
    assert_refused(&archive, &["\"x\"", "zero byte"]);
}

#[test]
fn links_that_lead_nowhere() {
    let archive = Archive::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", "");
    assert_refused(&archive, &["\"a/x\"", "40 symbolic links"]);
    assert_refused(
        &Archive::new().symlink("a", ""),
        &["\"a\"", "1 to 4095 bytes, not 0"],
    );
    assert_refused(
        &Archive::new().hard_link("a", "b"),
        &["\"a\"", "\"b\"", "does not contain"],
    );
    let later = Archive::new().hard_link("a", "b").file("b", "");
    assert_refused(&later, &["hard link to \"b\""]);
    let whiteout = Archive::new().file(".wh.b", "").hard_link("a", "b");
    assert_refused(&whiteout, &["hard link to \"b\""]);
    let below_file = Archive::new().file("b", "").hard_link("a", "b/c");
    assert_refused(&below_file, &["hard link to \"b/c\""]);
    assert_refused(&Archive::new().hard_link("a", "/"), &["hard link to \"/\""]);
    assert_refused(
        &Archive::new().dir("b").hard_link("a", "b"),
        &["which is a directory"],
    );
}

#[test]
fn entries_below_files() {
    assert_refused(
        &Archive::new().file("a", "").file("a/b", ""),
        &["\"a/b\"", "not a directory"],
    );
    let link = Archive::new()
        .file("a", "")
        .symlink("l", "a")
        .file("l/b", "");
    assert_refused(&link, &["\"l/b\"", "\"a\"", "not a directory"]);
}

#[test]
fn whiteouts_of_nothing() {
    for path in [".wh.", "d/.wh.", ".wh..", ".wh..."] {
        assert_refused(&Archive::new().file(path, ""), &[path, "does not say what"]);
    }
}

#[test]
fn types_that_layers_do_not_have() {
    for kind in [b'V', b'M', b'D', b'A'] {
        let archive = Archive::new().entry(header(EntryType::new(kind), b"odd", 0), b"");
        assert_refused(
            &archive,
            &["\"odd\"", "type", &char::from(kind).to_string()],
        );
    }
    assert_refused(
        &Archive::new().file("/", ""),
        &["root directory cannot be replaced"],
    );
    let device = Archive::new().device(EntryType::Char, "dev", 5000, 0);
    assert_refused(&device, &["\"dev\"", "5000:0"]);
}

#[test]
fn attributes_that_are_too_large() {
    let limits = LayerLimits {
        xattr_bytes: 1000,
        ..LayerLimits::default()
    };
    let archive = Archive::new()
        .pax(&[("SCHILY.xattr.user.a", &[0; 1000])])
        .file("f", "");
    let message = refusal_with(&archive, &limits);
    assert!(message.contains("1006 bytes, at most 1000"), "{message}");
    let archive = Archive::new()
        .pax(&[("SCHILY.xattr.user.a", &[0; 65_536])])
        .file("f", "");
    assert_refused(&archive, &["user.a has 65536 bytes"]);
    let keys: Vec<_> = (0..256).map(|i| format!("SCHILY.xattr.user.{i}")).collect();
    let records: Vec<_> = keys.iter().map(|key| (key.as_str(), &b"x"[..])).collect();
    assert_refused(
        &Archive::new().pax(&records).file("f", ""),
        &["256 extended attributes"],
    );
}

#[test]
fn limits() {
    let default = LayerLimits::default;
    let limits = LayerLimits {
        entries: 3,
        ..default()
    };
    let archive = Archive::new().file("a/b/c/d", "");
    assert!(refusal_with(&archive, &limits).contains("more than 3 entries"));
    assert!(convert_with(&Archive::new().file("a/b/c", "").bytes()[..], &limits).is_ok());
    let limits = LayerLimits {
        memory: 10_000,
        ..default()
    };
    let archive = (0..200).fold(Archive::new(), |archive, i| {
        archive.file(&format!("{i}"), "")
    });
    assert!(refusal_with(&archive, &limits).contains("more than 10000 bytes of names"));
    let limits = LayerLimits {
        file_bytes: 4,
        ..default()
    };
    let message = refusal_with(&Archive::new().file("a", "12345"), &limits);
    assert!(
        message.contains("\"a\"") && message.contains("5 bytes, at most 4"),
        "{message}"
    );
    let limits = LayerLimits {
        unpacked_bytes: 1000,
        ..default()
    };
    let message = refusal_with(&Archive::new().file("a", "12345"), &limits);
    assert!(
        message.contains("more than 1000 bytes after decompression"),
        "{message}"
    );
}

#[test]
fn archives_that_end_too_early() {
    let archive = Archive::new()
        .file("first", "x")
        .file("second", &"x".repeat(3000));
    let bytes = archive.unfinished();
    for length in [
        100,
        512 + 100,
        1024 + 511,
        1024 + 512 + 2000,
        bytes.len() - 1,
    ] {
        let error = convert_with(&bytes[..length], &LayerLimits::default())
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("ends in the middle"),
            "{length}: {error}"
        );
    }
    // Between entries an archive may end, with or without a zero block.
    assert!(convert_with(bytes, &LayerLimits::default()).is_ok());
    assert!(
        convert_with(
            archive.clone().raw(&[0; 512]).unfinished(),
            &LayerLimits::default()
        )
        .is_ok()
    );
    // Extended headers without the entry that they belong to are no end.
    let error = convert_with(
        Archive::new()
            .file("a", "")
            .pax(&[("path", b"x")])
            .unfinished(),
        &LayerLimits::default(),
    );
    assert!(
        error
            .err()
            .unwrap()
            .to_string()
            .contains("ends in the middle")
    );
}

#[test]
fn what_is_no_archive() {
    assert_refused(
        &Archive::new().raw(&[b'x'; 2048]),
        &["byte 0 should begin a tar header"],
    );
    let archive = Archive::new().file("good", "").raw(&[1; 512]);
    assert_refused(&archive, &["after entry \"good\"", "byte 512"]);
    let archive = Archive::new()
        .file("good", "")
        .raw(&[0; 512])
        .file("bad", "");
    assert_refused(&archive, &["after entry \"good\"", "byte 1024"]);
    // After the end anything may follow.
    let archive = Archive::new()
        .file("good", "")
        .raw(&[0; 1024])
        .raw(&[b'x'; 3000]);
    assert!(convert_with(&archive.bytes()[..], &LayerLimits::default()).is_ok());
}

#[test]
fn malformed_headers() {
    let archive = Archive::new()
        .entry(header(EntryType::XHeader, b"p", 5), b"bogus")
        .file("a", "");
    assert_refused(&archive, &["PAX"]);
    let mut number = header(EntryType::Regular, b"a", 0);
    number.as_old_mut().uid.copy_from_slice(b"zzzzzzz\0");
    assert_refused(
        &Archive::new().entry(number, b""),
        &["uid is no usable number"],
    );
    let mut size = header(EntryType::Regular, b"a", 0);
    size.as_old_mut().size.copy_from_slice(&[0xff; 12]);
    assert_refused(
        &Archive::new().entry(size, b""),
        &["size is no usable number"],
    );
    let long = header(EntryType::XHeader, b"p", 2 << 20);
    let archive = Archive::new().entry(long, &vec![b' '; 2 << 20]);
    assert_refused(&archive, &["2097152 bytes, at most 1048576"]);
}

#[test]
fn malformed_sparse_maps() {
    let sparse = |map: &[u8], size: &[u8]| {
        Archive::new()
            .pax(&[
                ("GNU.sparse.map", map),
                ("GNU.sparse.size", size),
                ("GNU.sparse.name", b"s"),
            ])
            .file("s", "12345")
    };
    let accepted = sparse(b"0,5", b"100000").bytes();
    assert!(convert_with(&accepted[..], &LayerLimits::default()).is_ok());
    for map in [
        &b"0,4"[..],
        b"0,6",
        b"0",
        b"5,3,0,2",
        b"99999,5",
        b"x",
        b"18446744073709551615,5",
    ] {
        assert_refused(&sparse(map, b"100000"), &["map of a sparse file"]);
    }
    assert_refused(&sparse(b"0,5", b"x"), &["PAX"]);
}

#[test]
fn input_that_fails() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the line was cut"))
        }
    }
    let archive = Archive::new().file("a", &"x".repeat(1 << 20));
    let input = archive.unfinished()[..1 << 19].chain(Failing);
    let error = convert_with(input, &LayerLimits::default()).err().unwrap();
    assert_eq!(error.to_string(), "cannot read the layer: the line was cut");
}

#[test]
fn a_full_disk() {
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else {
        panic!("this test needs /dev/full");
    };
    let archive = Archive::new().file("a", &"x".repeat(1 << 20)).bytes();
    let error = crate::image::layer::convert(&archive[..], &full, &LayerLimits::default());
    let message = error.unwrap_err().to_string();
    assert!(
        message.starts_with("cannot write the file system image: "),
        "{message}"
    );
}
