//! Compressed layers, whole and damaged.

use std::io::Write;

use flate2::write::GzEncoder;

use super::{Archive, convert_with};
use crate::image::digest::Digest;
use crate::image::layer::LayerLimits;

fn archive() -> Archive {
    let archive = Archive::new()
        .dir("d")
        .file("d/a", &"content ".repeat(10_000));
    (0..300).fold(archive, |archive, i| {
        archive.file(&format!("{i}"), &"x".repeat(i))
    })
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap()
}

fn fails(bytes: &[u8]) -> String {
    convert_with(bytes, &LayerLimits::default())
        .err()
        .unwrap()
        .to_string()
}

#[test]
fn all_compressions_give_the_same_layer() {
    let tar = archive().bytes();
    let (first, second) = tar.split_at(tar.len() / 3);
    let skippable = [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd(&tar)].concat();
    let blobs = [
        tar.clone(),
        gzip(&tar),
        [gzip(first), gzip(second)].concat(),
        zstd(&tar),
        [zstd(first), zstd(second)].concat(),
        skippable,
    ];
    for blob in blobs {
        let layer = convert_with(&blob[..], &LayerLimits::default())
            .unwrap()
            .layer;
        assert_eq!(layer.blob_digest, Digest::of(&blob));
        assert_eq!(layer.blob_size, blob.len() as u64);
        assert_eq!(layer.diff_id, Digest::of(&tar));
        assert_eq!(layer.unpacked_size, tar.len() as u64);
    }
}

#[test]
fn what_follows_the_archive_counts_for_the_digests() {
    let tar = archive()
        .raw(&[0; 1024])
        .raw(&vec![b'x'; 1 << 20])
        .unfinished()
        .to_vec();
    for blob in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let layer = convert_with(&blob[..], &LayerLimits::default())
            .unwrap()
            .layer;
        assert_eq!(
            (layer.diff_id, layer.blob_digest),
            (Digest::of(&tar), Digest::of(&blob))
        );
    }
}

#[test]
fn input_in_small_pieces() {
    struct Drip<'a>(&'a [u8]);
    impl std::io::Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = buffer.len().min(7);
            self.0.read(&mut buffer[..count])
        }
    }
    let tar = archive().bytes();
    let blob = gzip(&tar);
    let layer = convert_with(Drip(&blob), &LayerLimits::default())
        .unwrap()
        .layer;
    assert_eq!(
        (layer.diff_id, layer.blob_digest),
        (Digest::of(&tar), Digest::of(&blob))
    );
}

#[test]
fn damaged_and_truncated() {
    let tar = archive().bytes();
    for (name, blob) in [("gzip", gzip(&tar)), ("zstd", zstd(&tar))] {
        for length in [20, blob.len() / 2, blob.len() - 1] {
            let message = fails(&blob[..length]);
            assert!(
                message.contains(&format!("{name} data is damaged or truncated")),
                "{message}"
            );
        }
        let message = fails(&[&blob[..], b"garbage!"].concat());
        assert!(message.contains("damaged"), "{message}");
    }
    // A wrong checksum at the end, everything else intact.
    let mut blob = gzip(&tar);
    let at = blob.len() - 6;
    blob[at] ^= 1;
    assert!(fails(&blob).contains("gzip data is damaged"));
}

#[test]
fn unsupported_compressions() {
    assert!(fails(b"\xfd7zXZ\0\0\x04").contains("compressed with xz, which is not supported"));
    assert!(fails(b"BZh91AY&SY").contains("compressed with bzip2"));
}

#[test]
fn bombs() {
    let tar = Archive::new().file("zeros", &"\0".repeat(2 << 20)).bytes();
    let limits = LayerLimits {
        ratio_floor: 100 << 10,
        ratio: 100,
        ..LayerLimits::default()
    };
    for blob in [gzip(&tar), zstd(&tar)] {
        let error = convert_with(&blob[..], &limits).err().unwrap().to_string();
        assert!(error.contains("at most 100 times as many"), "{error}");
        let floor = LayerLimits {
            ratio_floor: 4 << 20,
            ..limits.clone()
        };
        assert!(convert_with(&blob[..], &floor).is_ok());
    }
    assert!(convert_with(&tar[..], &limits).is_ok());
}
