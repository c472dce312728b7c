//! Whatever the bytes of a layer, its conversion ends without a panic.

use std::fs::File;

use proptest::collection::vec;
use proptest::prelude::*;
use tar::EntryType;

use super::archive::header;
use super::{Archive, convert_with};
use crate::image::erofs::{Inode, Reader};
use crate::image::layer::LayerLimits;

fn limits() -> LayerLimits {
    LayerLimits {
        unpacked_bytes: 10 << 20,
        file_bytes: 1 << 30,
        entries: 5000,
        memory: 4 << 20,
        ..LayerLimits::default()
    }
}

/// An archive with something of everything.
fn sample() -> Vec<u8> {
    let mut map = b"1\n0\n3\n".to_vec();
    map.resize(512, 0);
    map.extend(b"abc");
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"9000"),
    ];
    let mut old_sparse = header(EntryType::GNUSparse, b"old-sparse", 3);
    old_sparse.as_mut_bytes()[386..398].copy_from_slice(b"00000001000\0");
    old_sparse.as_mut_bytes()[398..410].copy_from_slice(b"00000000003\0");
    old_sparse.as_mut_bytes()[483..495].copy_from_slice(b"00000010000\0");
    Archive::new()
        .dir("d/")
        .file("d/a", &"content".repeat(1000))
        .pax(&[
            ("SCHILY.xattr.user.a", b"1"),
            ("mtime", b"5.5"),
            ("uid", b"70000"),
        ])
        .file("d/b", "x")
        .symlink("l", "d")
        .file("l/c", "through the link")
        .hard_link("h", "d/a")
        .file("d/.wh.gone", "")
        .file("e/.wh..wh..opq", "")
        .device(EntryType::Char, "null", 1, 3)
        .pax(sparse)
        .entry(header(EntryType::Regular, b"s", map.len() as u64), &map)
        .entry(old_sparse, b"abc")
        .entry(header(EntryType::GNULongName, b"L", 120), &[b'n'; 120])
        .file("short", "")
        .bytes()
}

/// Goes through a whole image; what the writer made must be sound.
fn check(reader: &Reader, dir: &Inode, depth: usize) {
    assert!(depth < 2100);
    for entry in reader.read_dir(dir).unwrap() {
        let inode = reader.inode(entry.nid).unwrap();
        assert_eq!(inode.file_type, entry.file_type);
        reader.xattrs(&inode).unwrap();
        reader
            .read_at(&inode, &mut [0; 5000], inode.size / 2)
            .unwrap();
        if inode.file_type == crate::image::erofs::FileType::Directory {
            check(reader, &inode, depth + 1);
        }
    }
}

fn try_convert(bytes: &[u8]) -> bool {
    let Ok(converted) = convert_with(bytes, &limits()) else {
        return false;
    };
    check(&converted.reader, &converted.reader.root().unwrap(), 0);
    true
}

#[test]
fn the_sample_is_good() {
    assert!(try_convert(&sample()));
}

/// Makes the checksums of all headers right again.
fn mend(bytes: &mut [u8], original: &[u8]) {
    for at in (0..bytes.len() - 511).step_by(512) {
        let block = &original[at..at + 512];
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(i, byte)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u32::from(*byte)
                }
            })
            .sum();
        let stated = std::str::from_utf8(&block[148..156]).ok();
        if stated.and_then(|text| u32::from_str_radix(text.trim_matches([' ', '\0']), 8).ok())
            == Some(sum)
        {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&bytes[at..at + 512]);
            header.set_cksum();
            bytes[at..at + 512].copy_from_slice(header.as_bytes());
        }
    }
}

#[test]
fn mending_finds_the_headers() {
    let original = sample();
    let mut changed = original.clone();
    changed[0] = b'x';
    assert!(!try_convert(&changed));
    mend(&mut changed, &original);
    assert!(try_convert(&changed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn changed_archives(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let original = sample();
        let mut bytes = original.clone();
        for (at, byte) in changes {
            // Most of the archive is padding: headers and short data are what matters.
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        mend(&mut bytes, &original);
        try_convert(&bytes);
    }

    #[test]
    fn changed_fields(
        block in any::<prop::sample::Index>(),
        field in prop::sample::select(vec![(0, 100), (100, 8), (108, 8), (124, 12), (136, 12),
            (156, 1), (157, 100), (257, 8), (329, 16), (345, 155), (386, 110)]),
        data in vec(prop_oneof![Just(0), Just(b'/'), Just(b'.'), b'0'..=b'7', any::<u8>()], 155),
    ) {
        let original = sample();
        let mut bytes = original.clone();
        let at = block.index(bytes.len() / 512) * 512 + field.0;
        bytes[at..at + field.1].copy_from_slice(&data[..field.1]);
        mend(&mut bytes, &original);
        try_convert(&bytes);
    }

    #[test]
    fn cut_and_joined(cut in any::<prop::sample::Index>(), from in any::<prop::sample::Index>()) {
        let bytes = sample();
        let joined = [&bytes[..cut.index(bytes.len())], &bytes[from.index(bytes.len())..]].concat();
        try_convert(&joined);
    }

    #[test]
    fn random_bytes(start in prop::sample::select(vec![
        &b""[..], b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\x28\xb5\x2f\xfd"]), bytes in vec(any::<u8>(), 1..3000)) {
        try_convert(&[start, &bytes].concat());
    }

    #[test]
    fn random_trees(entries in vec((0..6u8, "[ab./]{1,8}", "[ab./]{1,8}"), 1..40)) {
        let mut archive = Archive::new();
        for (kind, path, target) in entries {
            archive = match kind {
                0 => archive.dir(&path),
                1 => archive.symlink(&path, &target),
                2 => archive.hard_link(&path, &target),
                3 => archive.file(&format!("{path}/.wh.{target}"), ""),
                4 => archive.file(&format!("{path}/.wh..wh..opq"), ""),
                _ => archive.file(&path, &target),
            };
            // Only entries that are accepted stay in.
            if !try_convert(&archive.bytes()) {
                break;
            }
        }
    }
}

#[test]
fn the_work_file_needs_no_reading() {
    // The store may open it for writing only.
    let temporary = tempfile::NamedTempFile::new().unwrap();
    let file = File::options().write(true).open(temporary.path()).unwrap();
    crate::image::layer::convert(&sample()[..], &file, &limits()).unwrap();
    let reader = Reader::open(File::open(temporary.path()).unwrap()).unwrap();
    check(&reader, &reader.root().unwrap(), 0);
}
