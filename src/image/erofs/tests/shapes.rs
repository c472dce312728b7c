//! Single shapes of images that are easy to get wrong.

use std::os::unix::fs::MetadataExt;

use super::super::*;
use super::{extract, fsck, image};

fn file(writer: &mut Writer<'_>, content: &[u8]) -> FileId {
    let mut file = writer.begin_file(content.len() as u64, 0);
    writer.append(&mut file, content).unwrap();
    writer
        .end_file(
            file,
            &Metadata {
                mode: 0o644,
                ..Metadata::default()
            },
        )
        .unwrap()
}

#[test]
fn empty_image() {
    let (file, reader) = image(|_| {});
    fsck(file.path());
    let root = reader.root().unwrap();
    assert_eq!((root.mode, root.links), (0o755, 2));
    assert_eq!(reader.read_dir(&root).unwrap(), []);
    assert_eq!(reader.uuid(), [7; 16]);
    assert_eq!(reader.inode_count(), 1);
    assert_eq!(reader.lookup(b"/a/b").unwrap(), None);
}

#[test]
fn tails_are_inlined_and_packed() {
    let (file, _) = image(|writer| {
        for i in 0..1000 {
            let id = file(writer, &vec![b'x'; 100 + i]);
            writer
                .tree_mut()
                .link(Tree::ROOT, format!("{i:04}").as_bytes(), id);
        }
    });
    fsck(file.path());
    let content = 1000 * (100 + 500 + 32 + 16);
    let size = file.as_file().metadata().unwrap().len();
    assert!(size < content * 115 / 100, "{size} bytes for {content}");
}

#[test]
fn hundred_thousand_entries() {
    let (file, reader) = image(|writer| {
        let metadata = Metadata {
            mode: 0o755,
            ..Metadata::default()
        };
        let dir = writer.tree_mut().make_dir(Tree::ROOT, b"many", metadata);
        for i in 0..100_000u32 {
            let id = file(writer, &i.to_le_bytes());
            writer
                .tree_mut()
                .link(dir, format!("file-{i}").as_bytes(), id);
        }
        assert!(
            writer.memory() < 20_000_000,
            "{} bytes of memory",
            writer.memory()
        );
    });
    let dir = reader.lookup(b"many").unwrap().unwrap();
    assert_eq!(reader.read_dir(&dir).unwrap().len(), 100_000);
    for i in [0u32, 1, 77_777, 99_999] {
        let inode = reader
            .lookup(format!("many/file-{i}").as_bytes())
            .unwrap()
            .unwrap();
        let mut bytes = [0; 4];
        reader.read_at(&inode, &mut bytes, 0).unwrap();
        assert_eq!(u32::from_le_bytes(bytes), i);
    }
    assert_eq!(reader.lookup(b"many/file-100000").unwrap(), None);
    assert_eq!(reader.lookup(b"many/file-0/x").unwrap(), None);
    fsck(file.path());
}

#[test]
fn a_terabyte_of_holes_costs_nothing() {
    const SIZE: u64 = 1 << 40;
    let (file, reader) = image(|writer| {
        let mut data = writer.begin_file(SIZE, 8);
        writer.append(&mut data, b"head").unwrap();
        writer.skip(&mut data, SIZE - 8).unwrap();
        writer.append(&mut data, b"tail").unwrap();
        let id = writer.end_file(data, &Metadata::default()).unwrap();
        writer.tree_mut().link(Tree::ROOT, b"sparse", id);
    });
    let metadata = file.as_file().metadata().unwrap();
    assert!(
        metadata.blocks() * 512 < 1 << 20,
        "{} bytes on disk",
        metadata.blocks() * 512
    );
    assert!(metadata.len() < 64 << 20, "{} bytes", metadata.len());
    let inode = reader.lookup(b"sparse").unwrap().unwrap();
    let mut bytes = [1; 16];
    assert_eq!(reader.read_at(&inode, &mut bytes, SIZE - 8).unwrap(), 8);
    assert_eq!(&bytes[..8], b"\0\0\0\0tail");
    assert_eq!(reader.read_at(&inode, &mut bytes, 0).unwrap(), 16);
    assert_eq!(&bytes, b"head\0\0\0\0\0\0\0\0\0\0\0\0");
    reader.read_at(&inode, &mut bytes, SIZE / 2).unwrap();
    assert_eq!(bytes, [0; 16]);
}

#[test]
fn large_chunks_of_a_file_with_zeros() {
    // Above 256 MiB chunks are larger than blocks.
    const SIZE: u64 = 700 << 20;
    let (file, reader) = image(|writer| {
        let mut data = writer.begin_file(SIZE, 0);
        writer.skip(&mut data, (300 << 20) + 4096).unwrap();
        writer.append(&mut data, &[b'm'; 5000]).unwrap();
        let rest = data.missing();
        writer.skip(&mut data, rest).unwrap();
        let id = writer.end_file(data, &Metadata::default()).unwrap();
        writer.tree_mut().link(Tree::ROOT, b"zeros", id);
    });
    fsck(file.path());
    let inode = reader.lookup(b"zeros").unwrap().unwrap();
    let mut bytes = vec![1; 16_384];
    reader.read_at(&inode, &mut bytes, 300 << 20).unwrap();
    let expected: Vec<u8> = (0..16_384)
        .map(|i| {
            if (4096..4096 + 5000).contains(&i) {
                b'm'
            } else {
                0
            }
        })
        .collect();
    assert!(bytes == expected);
}

#[test]
fn links_are_counted() {
    let (file, reader) = image(|writer| {
        let metadata = Metadata {
            mode: 0o755,
            ..Metadata::default()
        };
        let dir = writer.tree_mut().make_dir(Tree::ROOT, b"dir", metadata);
        let shared = file(writer, b"shared");
        for name in [b"a", b"b", b"c"] {
            writer.tree_mut().link(dir, name, shared);
        }
        let replacement = file(writer, b"other");
        writer.tree_mut().link(dir, b"b", replacement);
        // An extended inode: its time differs from the first one's.
        let late = Metadata {
            mtime: Timestamp { secs: 9, nanos: 1 },
            ..Metadata::default()
        };
        let late = writer.symlink(b"x", &late).unwrap();
        writer.tree_mut().link(dir, b"l1", late);
        writer.tree_mut().link(dir, b"l2", late);
        let gone = writer
            .tree_mut()
            .make_dir(dir, b"gone", Metadata::default());
        writer.tree_mut().link(gone, b"d", shared);
        writer.tree_mut().remove(dir, b"gone");
    });
    fsck(file.path());
    let links = |path: &str| reader.lookup(path.as_bytes()).unwrap().unwrap().links;
    assert_eq!((links("dir/a"), links("dir/b"), links("dir/c")), (2, 1, 2));
    assert_eq!((links("dir/l1"), links("dir"), links("/")), (2, 2, 3));
    let nid = |path: &str| reader.lookup(path.as_bytes()).unwrap().unwrap().nid;
    assert_eq!(nid("dir/a"), nid("dir/c"));
    assert_eq!(reader.lookup(b"dir/gone").unwrap(), None);
    assert_eq!(reader.inode_count(), 5);
}

#[test]
fn wrong_content_length_is_refused() {
    image(|writer| {
        let mut data = writer.begin_file(10, 0);
        writer.append(&mut data, b"12345").unwrap();
        assert!(matches!(
            writer.append(&mut data, b"678901"),
            Err(WriteError::FileSize)
        ));
        assert!(matches!(
            writer.skip(&mut data, 6),
            Err(WriteError::FileSize)
        ));
        let result = writer.end_file(data, &Metadata::default());
        assert!(matches!(result, Err(WriteError::FileSize)));
    });
}

#[test]
fn what_linux_cannot_have_is_refused() {
    image(|writer| {
        let metadata = Metadata::default();
        let long = vec![b'x'; 4096];
        assert!(matches!(
            writer.symlink(b"", &metadata),
            Err(WriteError::Symlink(0))
        ));
        assert!(matches!(
            writer.symlink(&long, &metadata),
            Err(WriteError::Symlink(4096))
        ));
        let device = writer.device(FileType::CharDevice, (4096, 0), &metadata);
        assert!(matches!(device, Err(WriteError::Device(4096, 0))));
    });
}

#[test]
fn full_root_directory_with_attributes() {
    let (file, reader) = image(|writer| {
        let root = writer.tree_mut().metadata_mut(Tree::ROOT);
        for i in 0..255 {
            root.xattrs
                .insert(format!("user.{i}").into_bytes(), vec![i; 1000]);
        }
        for i in 0..300 {
            let id = file(writer, b"");
            writer
                .tree_mut()
                .link(Tree::ROOT, format!("{i}").as_bytes(), id);
        }
    });
    fsck(file.path());
    let root = reader.root().unwrap();
    assert_eq!(reader.xattrs(&root).unwrap().len(), 255);
    assert_eq!(reader.read_dir(&root).unwrap().len(), 300);
}

#[test]
fn extraction_by_erofs_utils() {
    let (image, _) = image(|writer| {
        let metadata = Metadata {
            mode: 0o2711,
            uid: 5,
            gid: 100_000,
            ..Metadata::default()
        };
        let dir = writer.tree_mut().make_dir(Tree::ROOT, b"dir", metadata);
        let id = file(writer, &[b'x'; 5000]);
        writer.tree_mut().link(dir, b"file", id);
        let id = writer.symlink(b"dir/file", &Metadata::default()).unwrap();
        writer.tree_mut().link(Tree::ROOT, b"link", id);
        let late = Metadata {
            mtime: Timestamp {
                secs: 1_000_000_000,
                nanos: 5,
            },
            ..Metadata::default()
        };
        let id = writer.endpoint(FileType::Fifo, &late).unwrap();
        writer.tree_mut().link(Tree::ROOT, b"fifo", id);
    });
    let target = tempfile::tempdir().unwrap();
    extract(image.path(), target.path());
    let path = |name: &str| target.path().join(name);
    assert_eq!(std::fs::read(path("link")).unwrap(), [b'x'; 5000]);
    let fifo = std::fs::symlink_metadata(path("fifo")).unwrap();
    assert_eq!(fifo.mode() & 0o170_000, 0o010_000);
    assert_eq!(fifo.mtime(), 1_000_000_000);
    assert_eq!(
        std::fs::metadata(path("dir")).unwrap().mode() & 0o7777,
        0o2711
    );
}
