//! Random trees: what is written must be what is read.

use std::collections::BTreeMap;
use std::fs;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::super::*;
use super::{fsck, image};

/// A piece of a file's content.
#[derive(Clone, Debug)]
enum Piece {
    Bytes(u8, usize),
    Zeros(usize),
    Skip(usize),
}

#[derive(Clone, Debug)]
enum Node {
    Dir(Metadata, BTreeMap<Vec<u8>, Node>),
    File(Metadata, Vec<Piece>),
    Symlink(Metadata, Vec<u8>),
    Device(Metadata, bool, (u32, u32)),
    Endpoint(Metadata, bool),
}

fn content(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        match *piece {
            Piece::Bytes(seed, length) => {
                out.extend((0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)));
            }
            Piece::Zeros(length) | Piece::Skip(length) => out.resize(out.len() + length, 0),
        }
    }
    out
}

fn add(writer: &mut Writer<'_>, dir: DirId, name: &[u8], node: &Node) {
    let file = match node {
        Node::Dir(metadata, children) => {
            let id = writer.tree_mut().make_dir(dir, name, metadata.clone());
            for (name, node) in children {
                add(writer, id, name, node);
            }
            return;
        }
        Node::File(metadata, pieces) => {
            let bytes = content(pieces);
            let mut file = writer.begin_file(bytes.len() as u64, 0);
            let mut at = 0;
            for piece in pieces {
                match *piece {
                    Piece::Skip(length) => {
                        writer.skip(&mut file, length as u64).unwrap();
                        at += length;
                    }
                    Piece::Bytes(_, length) | Piece::Zeros(length) => {
                        // In two parts, so that block boundaries fall anywhere.
                        let (first, second) = bytes[at..at + length].split_at(length / 3);
                        writer.append(&mut file, first).unwrap();
                        writer.append(&mut file, second).unwrap();
                        at += length;
                    }
                }
            }
            writer.end_file(file, metadata).unwrap()
        }
        Node::Symlink(metadata, target) => writer.symlink(target, metadata).unwrap(),
        Node::Device(metadata, block, numbers) => {
            let kind = if *block {
                FileType::BlockDevice
            } else {
                FileType::CharDevice
            };
            writer.device(kind, *numbers, metadata).unwrap()
        }
        Node::Endpoint(metadata, fifo) => {
            let kind = if *fifo {
                FileType::Fifo
            } else {
                FileType::Socket
            };
            writer.endpoint(kind, metadata).unwrap()
        }
    };
    writer.tree_mut().link(dir, name, file);
}

fn check(reader: &Reader, inode: &Inode, node: &Node) {
    let metadata = match node {
        Node::Dir(metadata, children) => {
            assert_eq!(inode.file_type, FileType::Directory);
            let subdirs = children
                .values()
                .filter(|node| matches!(node, Node::Dir(..)))
                .count();
            assert_eq!(inode.links as usize, 2 + subdirs);
            let entries = reader.read_dir(inode).unwrap();
            let names: Vec<_> = entries.iter().map(|entry| &entry.name).collect();
            assert_eq!(names, children.keys().collect::<Vec<_>>());
            for (entry, (name, node)) in entries.iter().zip(children) {
                assert_eq!(reader.child(inode, name).unwrap().as_ref(), Some(entry));
                let child = reader.inode(entry.nid).unwrap();
                assert_eq!(child.file_type, entry.file_type);
                check(reader, &child, node);
            }
            metadata
        }
        Node::File(metadata, pieces) => {
            let expected = content(pieces);
            assert_eq!(inode.file_type, FileType::Regular);
            assert_eq!(inode.size, expected.len() as u64);
            assert_eq!(inode.links, 1);
            let mut read = vec![0xee; expected.len() + 10];
            assert_eq!(reader.read_at(inode, &mut read, 0).unwrap(), expected.len());
            assert!(read[..expected.len()] == expected, "content differs");
            let middle = expected.len() / 2;
            let count = reader.read_at(inode, &mut read, middle as u64).unwrap();
            assert!(
                read[..count] == expected[middle..],
                "content differs from {middle} on"
            );
            metadata
        }
        Node::Symlink(metadata, target) => {
            assert_eq!(inode.file_type, FileType::Symlink);
            assert_eq!(&reader.read_link(inode).unwrap(), target);
            metadata
        }
        Node::Device(metadata, block, numbers) => {
            assert_eq!(inode.file_type == FileType::BlockDevice, *block);
            assert_eq!(inode.device(), Some(*numbers));
            assert_eq!(inode.is_whiteout(), !block && *numbers == (0, 0));
            metadata
        }
        Node::Endpoint(metadata, fifo) => {
            assert_eq!(inode.file_type == FileType::Fifo, *fifo);
            metadata
        }
    };
    let read = Metadata {
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        mtime: inode.mtime,
        xattrs: reader.xattrs(inode).unwrap(),
    };
    assert_eq!(&read, metadata);
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let id = || prop_oneof![Just(0), 0..70_000u32, any::<u32>()];
    let time = prop_oneof![
        Just(Timestamp::default()),
        (any::<u32>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Timestamp {
            secs: secs.into(),
            nanos
        }),
        (-5_000_000_000..5_000_000_000i64).prop_map(|secs| Timestamp { secs, nanos: 0 }),
    ];
    let name = prop_oneof![
        "user\\.[a-z]{1,20}",
        "trusted\\.[a-z.]{1,5}",
        "security\\.(capability|selinux)",
        "system\\.posix_acl_(access|default)",
    ];
    let value = prop_oneof![vec(any::<u8>(), 0..30), vec(any::<u8>(), 0..6000)];
    let xattrs = btree_map(name.prop_map(String::into_bytes), value, 0..4);
    let xattrs = prop_oneof![3 => Just(Xattrs::new()), 1 => xattrs];
    (0..0o10000u16, id(), id(), time, xattrs).prop_map(|(mode, uid, gid, mtime, xattrs)| Metadata {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    })
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let length = || prop_oneof![0..200usize, 4090..4100usize, 0..20_000usize, Just(8192)];
    let piece = prop_oneof![
        3 => (any::<u8>(), length()).prop_map(|(seed, length)| Piece::Bytes(seed, length)),
        1 => length().prop_map(Piece::Zeros),
        1 => length().prop_map(Piece::Skip),
    ];
    vec(piece, 0..6)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'.'), Just(b'a'), any::<u8>()];
    let length = prop_oneof![8 => 1..8usize, 1 => 250..256usize];
    length
        .prop_flat_map(move |length| vec(byte.clone(), length))
        .prop_filter("reserved name", |name| {
            name != b"." && name != b".." && !name.contains(&0) && !name.contains(&b'/')
        })
}

fn tree() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        4 => (metadata(), pieces()).prop_map(|(metadata, pieces)| Node::File(metadata, pieces)),
        1 => (metadata(), prop_oneof![vec(1..=255u8, 1..50), vec(1..=255u8, 3900..=4095)])
            .prop_map(|(metadata, target)| Node::Symlink(metadata, target)),
        1 => (metadata(), any::<bool>(), (0..=0xfffu32, 0..=0xf_ffffu32))
            .prop_map(|(metadata, block, numbers)| Node::Device(metadata, block, numbers)),
        1 => (metadata(), any::<bool>())
            .prop_map(|(metadata, fifo)| Node::Endpoint(metadata, fifo)),
    ];
    let inner = leaf.prop_recursive(4, 60, 12, |inner| {
        (metadata(), btree_map(name(), inner, 0..12))
            .prop_map(|(metadata, children)| Node::Dir(metadata, children))
    });
    (metadata(), btree_map(name(), inner, 0..30))
        .prop_map(|(metadata, children)| Node::Dir(metadata, children))
}

fn write(writer: &mut Writer<'_>, root: &Node) {
    let Node::Dir(metadata, children) = root else {
        panic!("the root is a directory")
    };
    *writer.tree_mut().metadata_mut(Tree::ROOT) = metadata.clone();
    for (name, node) in children {
        add(writer, Tree::ROOT, name, node);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn what_is_written_is_read(root in tree()) {
        let (file, reader) = image(|writer| write(writer, &root));
        check(&reader, &reader.root().unwrap(), &root);
        fsck(file.path());
        let (again, _) = image(|writer| write(writer, &root));
        prop_assert!(fs::read(file.path()).unwrap() == fs::read(again.path()).unwrap());
    }
}
