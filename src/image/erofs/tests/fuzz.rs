//! Whatever the bytes of an image, reading it ends without a panic.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::image;

/// Looks at everything that can be reached, to a limited number of files.
fn explore(reader: &Reader) -> usize {
    let mut todo: Vec<_> = reader.root().into_iter().collect();
    let mut seen = 0;
    while let Some(inode) = todo.pop() {
        seen += 1;
        if seen > 200 {
            break;
        }
        let mut buffer = vec![0; 10_000];
        let _ = reader.xattrs(&inode);
        let _ = reader.read_link(&inode);
        let _ = reader.child(&inode, b"name");
        for at in [
            0,
            4000,
            inode.size / 2,
            inode.size.wrapping_sub(1),
            u64::MAX,
        ] {
            let _ = reader.read_at(&inode, &mut buffer, at);
        }
        if let Ok(entries) = reader.read_dir(&inode) {
            todo.extend(
                entries
                    .iter()
                    .filter_map(|entry| reader.inode(entry.nid).ok()),
            );
        }
    }
    seen
}

fn sample() -> (tempfile::NamedTempFile, Reader) {
    image(|writer| {
        let metadata = Metadata {
            mode: 0o755,
            xattrs: Xattrs::from([(b"user.a".to_vec(), b"value".to_vec())]),
            ..Metadata::default()
        };
        let dir = writer
            .tree_mut()
            .make_dir(Tree::ROOT, b"dir", metadata.clone());
        let id = writer.symlink(b"target", &metadata).unwrap();
        writer.tree_mut().link(dir, b"link", id);
        for (name, size) in [("small", 100), ("large", 20_000), ("sparse", 100_000)] {
            let mut data = writer.begin_file(size, 0);
            writer.append(&mut data, b"x").unwrap();
            writer.skip(&mut data, size - 1).unwrap();
            let id = writer.end_file(data, &metadata).unwrap();
            writer.tree_mut().link(dir, name.as_bytes(), id);
        }
        for i in 0..300 {
            let id = writer.endpoint(FileType::Fifo, &metadata).unwrap();
            writer
                .tree_mut()
                .link(dir, format!("fifo-{i:0100}").as_bytes(), id);
        }
    })
}

/// The sample without a checksum, so that damage is not simply found by it.
fn unchecked_sample() -> Vec<u8> {
    let (file, _) = sample();
    let mut bytes = fs::read(file.path()).unwrap();
    bytes[1024 + 8] &= !1;
    bytes
}

#[test]
fn the_sample_is_explored() {
    let (_file, reader) = sample();
    assert!(explore(&reader) > 200);
}

#[test]
fn truncated_images() {
    let bytes = unchecked_sample();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    for length in (0..bytes.len()).rev().step_by(1500) {
        file.set_len(length as u64).unwrap();
        if let Ok(reader) = Reader::open(file.try_clone().unwrap()) {
            explore(&reader);
        }
    }
}

fn open(bytes: &[u8]) -> Result<Reader, ReadError> {
    let file: File = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    Reader::open(file)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn damaged_images(damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut bytes = unchecked_sample();
        for (at, byte) in damage {
            let at = at.index(bytes.len() - 1024) + 1024;
            bytes[at] = byte;
        }
        if let Ok(reader) = open(&bytes) {
            explore(&reader);
        }
    }

    #[test]
    fn random_metadata(seed in vec(any::<u8>(), 64), at in 1152..4096usize) {
        let mut bytes = unchecked_sample();
        for (i, byte) in bytes[at..].iter_mut().enumerate().take(3000) {
            *byte ^= seed[i % 64];
        }
        let reader = open(&bytes).unwrap();
        explore(&reader);
        for nid in 0..200 {
            if let Ok(inode) = reader.inode(nid) {
                let _ = reader.xattrs(&inode);
                let _ = reader.read_dir(&inode);
                let _ = reader.read_at(&inode, &mut [0; 100], 5);
            }
        }
    }

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..10_000)) {
        prop_assert!(open(&bytes).is_err());
    }
}
