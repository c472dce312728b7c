//! All dialects of tar give the same files.

use tar::EntryType;

use super::archive::header;
use super::{Archive, converted};
use crate::image::erofs::Timestamp;

#[test]
fn ustar_prefix() {
    let mut header = tar::Header::new_ustar();
    header
        .set_path(format!("{}/{}", "p".repeat(120), "n".repeat(90)))
        .unwrap();
    header.set_mode(0o600);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let layer = converted(&Archive::new().entry(header, b""));
    assert_eq!(layer.names(&"p".repeat(120)), ["n".repeat(90)]);
}

#[test]
fn before_posix() {
    let mut dir = header(EntryType::Regular, b"dir/", 0);
    let mut file = header(EntryType::Regular, b"dir/file", 3);
    for header in [&mut dir, &mut file] {
        header.as_mut_bytes()[156] = 0;
        header.as_mut_bytes()[257..].fill(0);
    }
    let layer = converted(&Archive::new().entry(dir, b"").entry(file, b"old"));
    assert_eq!(layer.text("dir/file"), "old");
    assert_eq!(layer.implicit_dirs(), ["/"]);
}

#[test]
fn gnu_long_names() {
    let (path, target) = (format!("d/{}", "n".repeat(200)), "t".repeat(300));
    let long = |kind: u8, text: &str| {
        (
            header(
                EntryType::new(kind),
                b"././@LongLink",
                text.len() as u64 + 1,
            ),
            format!("{text}\0"),
        )
    };
    let (name, name_data) = long(b'L', &path);
    let (link, link_data) = long(b'K', &target);
    let archive = Archive::new()
        .entry(name, name_data.as_bytes())
        .entry(link, link_data.as_bytes())
        .symlink("short", "short");
    let layer = converted(&archive.file("after", ""));
    assert_eq!(
        layer.reader.read_link(&layer.inode(&path)).unwrap(),
        target.as_bytes()
    );
    assert_eq!(layer.names("/"), ["after", "d"]);
}

#[test]
fn numbers_beyond_octal() {
    let mut binary = header(EntryType::Regular, b"binary", 0);
    binary.set_uid(0xdead_beef);
    binary.set_mtime(99_999_999_999);
    let mut past = header(EntryType::Regular, b"past", 0);
    past.as_old_mut().mtime.copy_from_slice(&[0xff; 12]);
    let layer = converted(
        &Archive::new()
            .entry(binary, b"")
            .entry(past, b"")
            .pax(&[
                ("uid", b"4294967294"),
                ("gid", b"100000"),
                ("mtime", b"-1.25"),
            ])
            .file("pax", "")
            .file("plain", ""),
    );
    assert_eq!(layer.inode("binary").uid, 0xdead_beef);
    assert_eq!(layer.inode("binary").mtime.secs, 99_999_999_999);
    assert_eq!(layer.inode("past").mtime.secs, -1);
    let pax = layer.inode("pax");
    assert_eq!((pax.uid, pax.gid), (4_294_967_294, 100_000));
    assert_eq!(
        pax.mtime,
        Timestamp {
            secs: -2,
            nanos: 750_000_000
        }
    );
    // What PAX said was for one entry only.
    assert_eq!(layer.inode("plain").uid, 1);
}

#[test]
fn pax_size() {
    let mut file = header(EntryType::Regular, b"f", 0);
    file.set_size(0);
    let archive = Archive::new()
        .pax(&[("size", b"5")])
        .entry(file, b"12345")
        .file("g", "after");
    let layer = converted(&archive);
    assert_eq!(
        (layer.text("f"), layer.text("g")),
        ("12345".into(), "after".into())
    );
}

#[test]
fn global_headers_are_ignored() {
    let data = b"9 path=x\n11 uid=999\n";
    let global = header(EntryType::XGlobalHeader, b"g", data.len() as u64);
    let layer = converted(&Archive::new().entry(global, data).file("a", ""));
    assert_eq!(layer.inode("a").uid, 1);
    let global = Archive::new()
        .file("a", "")
        .entry(header(EntryType::XGlobalHeader, b"g", 0), b"");
    assert_eq!(converted(&global).names("/"), ["a"]);
}

#[test]
fn sparse_files_in_pax_headers() {
    let expected = |layer: &super::Converted, path: &str| {
        let text = layer.text(path);
        assert_eq!(text.len(), 50_000);
        assert_eq!(&text[..3], "abc");
        assert_eq!(&text[20_000..20_002], "de");
        assert_eq!(text.trim_matches('\0').replace('\0', ""), "abcde");
    };
    let pieces: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"50000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"0"),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"20000"),
        ("GNU.sparse.numbytes", b"2"),
    ];
    let map: &[(&str, &[u8])] = &[
        ("GNU.sparse.name", b"0.1"),
        ("GNU.sparse.size", b"50000"),
        ("GNU.sparse.map", b"0,3,20000,2"),
    ];
    let in_data: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"1.0"),
        ("GNU.sparse.realsize", b"50000"),
    ];
    let mut data = b"2\n0\n3\n20000\n2\n".to_vec();
    data.resize(512, 0);
    data.extend(b"abcde");
    let layer = converted(
        &Archive::new()
            .pax(pieces)
            .file("0.0", "abcde")
            .pax(map)
            .file("GNUSparseFile.0/x", "abcde")
            .pax(in_data)
            .entry(
                header(EntryType::Regular, b"GNUSparseFile.0/y", data.len() as u64),
                &data,
            )
            .file("after", ""),
    );
    for path in ["0.0", "0.1", "1.0"] {
        expected(&layer, path);
    }
    assert_eq!(layer.names("/"), ["0.0", "0.1", "1.0", "after"]);
}
