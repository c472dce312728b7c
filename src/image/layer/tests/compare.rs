//! Real trees, packed by GNU tar in all its formats: the image must contain what the tree has,
//! as our reader sees it and as erofs-utils unpacks it.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{
    FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink,
};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::UtimensatFlags::NoFollowSymlink;
use nix::sys::stat::{Mode, SFlag, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;

use super::convert_with;
use crate::image::digest::Digest;
use crate::image::erofs::{FileType, Inode, Reader, Xattrs, fsck_and_extract};
use crate::image::layer::LayerLimits;

/// All that is compared of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    kind: FileType,
    mode: u16,
    owner: (u32, u32),
    mtime: (i64, u32),
    size: u64,
    device: Option<(u64, u64)>,
    content: Option<Digest>,
    xattrs: Xattrs,
    /// The first of its names, so that the same files have the same names.
    first_name: PathBuf,
}

type Listing = BTreeMap<PathBuf, Facts>;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A tree with something of everything that a file system can have.
fn make_tree(root: &Path) {
    let path = |name: &str| root.join(name);
    for dir in ["empty", "etc", "deep/er/and/deeper", "sticky"] {
        fs::create_dir_all(path(dir)).unwrap();
    }
    for (i, size) in [0, 1, 100, 4095, 4096, 4097, 8192, 100_000, 3_000_000]
        .into_iter()
        .enumerate()
    {
        let content: Vec<u8> = (0..size).map(|j: u32| (j * 7 / 3) as u8 | 1).collect();
        fs::write(path(&format!("etc/{size}")), content).unwrap();
        let mode = [0o644, 0o600, 0o4755, 0o2711, 0o1777, 0o400, 0o777, 0, 0o640][i];
        fs::set_permissions(
            path(&format!("etc/{size}")),
            PermissionsExt::from_mode(mode),
        )
        .unwrap();
    }
    fs::set_permissions(path("sticky"), PermissionsExt::from_mode(0o1777)).unwrap();
    let long = "long name ".repeat(26)[..255].to_owned();
    fs::write(path(&format!("deep/er/{long}")), "long").unwrap();
    fs::create_dir_all(path(&format!("deep/{long}/{long}"))).unwrap();
    fs::write(path(&format!("deep/{long}/{long}/end")), "end").unwrap();
    fs::write(
        root.join(std::ffi::OsStr::from_bytes(b"not \xff utf-8\n")),
        "bytes",
    )
    .unwrap();
    symlink("../etc/100", path("deep/link")).unwrap();
    symlink("/", path("deep/er/host")).unwrap();
    symlink("t/".repeat(1500), path("deep/long-link")).unwrap();
    for name in ["a", "sticky/b", "zzz"] {
        fs::hard_link(path("etc/8192"), path(name)).unwrap();
    }
    fs::hard_link(path("deep/link"), path("deep/link-again")).unwrap();
    let sparse = File::create(path("sparse")).unwrap();
    for at in [1 << 20, 5 << 20, (5 << 20) + 6000] {
        sparse.write_all_at(&[b's'; 5000], at).unwrap();
    }
    sparse.set_len(10 << 20).unwrap();
    let holes = File::create(path("all-holes")).unwrap();
    holes.set_len(1 << 20).unwrap();
    for i in 0..2000 {
        fs::write(path(&format!("sticky/{i}")), format!("{i}").repeat(i % 50)).unwrap();
    }
    let fifo = CString::new(path("fifo").as_os_str().as_bytes()).unwrap();
    nix::unistd::mkfifo(fifo.as_c_str(), Mode::from_bits_truncate(0o640)).unwrap();
    if is_root() {
        make_privileged(root);
    }
    xattr::set(path("etc/100"), "user.one", b"1").expect("this test needs user attributes in /tmp");
    xattr::set(path("etc"), "user.dir", &[7; 2000]).unwrap();
    for (name, secs, nanos) in [
        ("etc/1", 1, 999_999_999),
        ("deep/link", 1_234_567_890, 123_456_789),
        ("empty", 4_000_000_000, 5),
        ("fifo", -7, 0),
        ("etc", 1_600_000_000, 0),
    ] {
        let time = TimeSpec::new(secs, nanos);
        utimensat(
            nix::fcntl::AT_FDCWD,
            &path(name),
            &time,
            &time,
            NoFollowSymlink,
        )
        .unwrap();
    }
}

fn make_privileged(root: &Path) {
    let path = |name: &str| root.join(name);
    for (name, kind, (major, minor)) in [
        ("null", SFlag::S_IFCHR, (1, 3)),
        ("tty", SFlag::S_IFCHR, (204, 64)),
        ("disk", SFlag::S_IFBLK, (259, 70_000)),
    ] {
        mknod(
            &path(name),
            kind,
            Mode::from_bits_truncate(0o620),
            makedev(major, minor),
        )
        .unwrap();
    }
    chown(path("etc/100"), Some(70_000), Some(2_000_000_000)).unwrap();
    chown(path("empty"), Some(33), Some(65_535)).unwrap();
    lchown(path("deep/link"), Some(1000), Some(4_000_000_000)).unwrap();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    xattr::set(path("etc/4097"), "security.capability", capability).unwrap();
    xattr::set(path("etc/4097"), "trusted.secret", b"\0binary\n=").unwrap();
    // user::rwx, user:1000:r--, group::r-x, mask::r-x, other::---
    let entries = [
        (1, 7, u32::MAX),
        (2, 4, 1000),
        (4, 5, u32::MAX),
        (16, 5, u32::MAX),
        (32, 0, u32::MAX),
    ];
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        acl.extend(u16::to_le_bytes(tag));
        acl.extend(u16::to_le_bytes(bits));
        acl.extend(u32::to_le_bytes(id));
    }
    xattr::set(path("empty"), "system.posix_acl_access", &acl).unwrap();
    xattr::set(path("empty"), "system.posix_acl_default", &acl).unwrap();
}

fn list_tree(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut first_names = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    let mut all = Vec::new();
    while let Some(path) = todo.pop() {
        if fs::symlink_metadata(root.join(&path)).unwrap().is_dir() {
            let names = fs::read_dir(root.join(&path)).unwrap();
            todo.extend(names.map(|entry| path.join(entry.unwrap().file_name())));
        }
        all.push(path);
    }
    all.sort();
    for path in all {
        let full = root.join(&path);
        let metadata = fs::symlink_metadata(&full).unwrap();
        let kind = metadata.file_type();
        let (kind, content) = if kind.is_dir() {
            (FileType::Directory, None)
        } else if kind.is_symlink() {
            let target = fs::read_link(&full).unwrap();
            (
                FileType::Symlink,
                Some(Digest::of(target.as_os_str().as_bytes())),
            )
        } else if kind.is_file() {
            (
                FileType::Regular,
                Some(Digest::of(fs::read(&full).unwrap())),
            )
        } else if kind.is_char_device() {
            (FileType::CharDevice, None)
        } else if kind.is_block_device() {
            (FileType::BlockDevice, None)
        } else {
            (FileType::Fifo, None)
        };
        let mut xattrs = Xattrs::new();
        for name in xattr::list(&full).unwrap() {
            let value = xattr::get(&full, &name).unwrap().unwrap();
            xattrs.insert(name.as_bytes().to_vec(), value);
        }
        let is_device = matches!(kind, FileType::CharDevice | FileType::BlockDevice);
        let rdev = metadata.rdev();
        let facts = Facts {
            kind,
            mode: (metadata.mode() & 0o7777) as u16,
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
            size: if kind == FileType::Directory {
                0
            } else {
                metadata.len()
            },
            device: is_device.then(|| (nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev))),
            content,
            xattrs,
            first_name: first_names
                .entry(metadata.ino())
                .or_insert_with(|| path.clone())
                .clone(),
        };
        listing.insert(path, facts);
    }
    listing
}

fn list_image(reader: &Reader) -> Listing {
    let mut all = BTreeMap::new();
    let mut todo = vec![(PathBuf::new(), reader.root().unwrap())];
    while let Some((path, inode)) = todo.pop() {
        if inode.file_type == FileType::Directory {
            for entry in reader.read_dir(&inode).unwrap() {
                let path = path.join(std::ffi::OsStr::from_bytes(&entry.name));
                todo.push((path, reader.inode(entry.nid).unwrap()));
            }
        }
        all.insert(path, inode);
    }
    let mut first_names = BTreeMap::new();
    let mut listing = Listing::new();
    for (path, inode) in &all {
        let first_name = first_names
            .entry(inode.nid)
            .or_insert_with(|| path.clone())
            .clone();
        listing.insert(path.clone(), facts(reader, inode, first_name));
    }
    for facts in listing
        .values()
        .filter(|facts| facts.kind != FileType::Directory)
    {
        let names = listing
            .values()
            .filter(|other| other.first_name == facts.first_name)
            .count();
        assert_eq!(
            all[&facts.first_name].links as usize, names,
            "{:?}",
            facts.first_name
        );
    }
    listing
}

fn facts(reader: &Reader, inode: &Inode, first_name: PathBuf) -> Facts {
    let content = matches!(inode.file_type, FileType::Regular | FileType::Symlink).then(|| {
        let mut content = vec![0; inode.size as usize];
        assert_eq!(
            reader.read_at(inode, &mut content, 0).unwrap(),
            content.len()
        );
        Digest::of(content)
    });
    Facts {
        kind: inode.file_type,
        mode: inode.mode,
        owner: (inode.uid, inode.gid),
        mtime: (inode.mtime.secs, inode.mtime.nanos),
        size: if inode.file_type == FileType::Directory {
            0
        } else {
            inode.size
        },
        device: inode
            .device()
            .map(|(major, minor)| (major.into(), minor.into())),
        content,
        xattrs: reader.xattrs(inode).unwrap(),
        first_name,
    }
}

#[track_caller]
fn assert_same(found: &Listing, expected: &Listing) {
    let names = |listing: &Listing| listing.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (path, facts) in expected {
        assert_eq!(&found[path], facts, "{}", path.display());
    }
}

/// Packs `tree` with GNU tar.
fn pack(tree: &Path, options: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .args(options)
        .args(["--sort=name", "-C"])
        .arg(tree)
        .args(["-c", "."])
        .output()
        .expect("this test needs GNU tar");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tar {options:?}: {errors}");
    output.stdout
}

/// What an archive without attributes and with whole seconds has of a tree.
fn coarse(listing: &Listing) -> Listing {
    let mut listing = listing.clone();
    for facts in listing.values_mut() {
        facts.xattrs.clear();
        facts.mtime.1 = 0;
    }
    listing
}

#[test]
fn every_format_of_gnu_tar() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let expected = list_tree(tree.path());
    let all: &[&str] = &["--format=pax", "--xattrs", "--xattrs-include=*"];
    let sparse = |version| [all, &["--sparse", version]].concat();
    let mut images = Vec::new();
    for options in [
        all.to_vec(),
        sparse("--sparse-version=0.0"),
        sparse("--sparse-version=0.1"),
        sparse("--sparse-version=1.0"),
    ] {
        let tar = pack(tree.path(), &options);
        let converted = convert_with(&tar[..], &LayerLimits::default()).unwrap();
        assert_same(&list_image(&converted.reader), &expected);
        images.push(converted);
    }
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=oldgnu"],
    ] {
        let tar = pack(tree.path(), options);
        let converted = convert_with(&tar[..], &LayerLimits::default()).unwrap();
        assert_same(&list_image(&converted.reader), &coarse(&expected));
        images.push(converted);
    }
    // Zeros become holes wherever they come from.
    let sizes: Vec<_> = images.iter().map(|image| image.layer.image_size).collect();
    assert!(sizes.iter().all(|size| *size < 8 << 20), "{sizes:?}");
}

#[test]
fn erofs_utils_unpacks_the_same() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    // erofs-utils 1.5 forgets holes at the end of files when it unpacks.
    for name in ["all-holes", "sparse"] {
        fs::remove_file(tree.path().join(name)).unwrap();
    }
    let tar = pack(tree.path(), &["--format=pax"]);
    let image = tempfile::NamedTempFile::new().unwrap();
    crate::image::layer::convert(&tar[..], image.as_file(), &LayerLimits::default()).unwrap();
    let target = tempfile::tempdir().unwrap();
    fsck_and_extract(image.path(), target.path());
    let simple = |listing: Listing| {
        let mut listing = listing;
        for (path, facts) in &mut listing {
            facts.xattrs.clear();
            // It makes copies of hard links, loses set-id bits as it changes owners, and unpacks
            // into a directory that it keeps.
            facts.mode &= 0o1777;
            facts.first_name.clone_from(path);
            if path.as_os_str().is_empty() {
                facts.mtime = (0, 0);
            }
        }
        listing
    };
    assert_same(
        &simple(list_tree(target.path())),
        &simple(list_tree(tree.path())),
    );
}
