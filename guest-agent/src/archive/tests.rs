//! Archives go round, and hostile ones stay where they are put.

use super::*;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use tar::{EntryType, Header};

const MINE: Unpack = Unpack {
    owner: Owner::Unpacker,
    set_ids: false,
    devices: false,
};

fn packed(path: &Path, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut packer = Packer::new(&mut bytes, |_| Ok(Vec::new()));
    packer.tree(path, Path::new(name)).unwrap();
    packer.finish().unwrap();
    bytes
}

fn unpacked(bytes: &[u8], into: &Path) -> std::io::Result<()> {
    unpack(File::open(into).unwrap().as_fd(), Cursor::new(bytes), MINE)
}

#[test]
fn a_number_that_is_left_out_is_zero() {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_uid(7);
    header.as_old_mut().mtime = [b' '; 12];
    let numbers = Numbers::of(&header).unwrap();
    let Numbers {
        mode,
        uid,
        gid,
        mtime,
    } = numbers;
    assert_eq!((mode, uid, gid, mtime), (0o644, 7, 0, 0));
    header.as_old_mut().gid = *b"nonsense";
    assert!(Numbers::of(&header).is_err());
}

#[test]
fn a_tree_comes_back_from_its_archive() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let long = "n".repeat(255);
    fs::create_dir_all(root.join("a/deep").join(&long)).unwrap();
    fs::write(root.join("a/deep").join(&long).join("file"), b"content").unwrap();
    fs::hard_link(
        root.join("a/deep").join(&long).join("file"),
        root.join("z-link"),
    )
    .unwrap();
    symlink("x".repeat(200), root.join("link")).unwrap();
    fs::write(root.join("ümlaut"), b"").unwrap();
    fs::set_permissions(root.join("ümlaut"), fs::Permissions::from_mode(0o4751)).unwrap();
    nix::unistd::mkfifo(
        &root.join("fifo"),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();

    let file = dir.path().join("archive");
    let mut packer = Packer::new(File::create(&file).unwrap(), |_| Ok(Vec::new()));
    packer.children(&root).unwrap();
    packer.finish().unwrap();
    let mut archive = tar::Archive::new(File::open(&file).unwrap());
    let mut seen = BTreeMap::new();
    let mut order = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry
            .path()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches('/')
            .to_owned();
        let link = entry
            .link_name()
            .unwrap()
            .map(|l| l.to_str().unwrap().to_owned());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        order.push(path.clone());
        let header = entry.header();
        seen.insert(
            path,
            (
                header.entry_type(),
                header.mode().unwrap(),
                link,
                content.len(),
            ),
        );
    }
    let mut sorted = order.clone();
    sorted.sort();
    assert_eq!(order, sorted);
    assert_eq!(seen.len(), 9);
    let deep = format!("a/deep/{long}/file");
    assert_eq!(seen[&deep].3, 7);
    assert_eq!(seen["z-link"].0, EntryType::Link);
    assert_eq!(seen["z-link"].2.as_deref(), Some(deep.as_str()));
    assert_eq!(seen["link"].2.as_ref().unwrap().len(), 200);
    assert_eq!(seen["ümlaut"].1, 0o4751);
    assert_eq!(seen["fifo"].0, EntryType::Fifo);
    assert_eq!(seen["sparse"].3, 3 << 20);
}

#[test]
fn a_tree_goes_round_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("sub/deep")).unwrap();
    fs::write(from.join("sub/deep/file"), b"content").unwrap();
    fs::hard_link(from.join("sub/deep/file"), from.join("twin")).unwrap();
    symlink("sub/deep", from.join("link")).unwrap();
    fs::set_permissions(from.join("sub/deep"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(from.join("twin"), fs::Permissions::from_mode(0o4755)).unwrap();
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    unpacked(&packed(&from, "named"), &into).unwrap();
    assert_eq!(
        fs::read(into.join("named/sub/deep/file")).unwrap(),
        b"content"
    );
    let twin = fs::metadata(into.join("named/twin")).unwrap();
    assert_eq!(twin.nlink(), 2);
    // Set-id bits are the archive's, and who unpacks did not ask for them.
    assert_eq!(twin.mode() & 0o7777, 0o755);
    assert_eq!(
        fs::metadata(into.join("named/sub/deep")).unwrap().mode() & 0o777,
        0o555
    );
    assert_eq!(
        fs::read_link(into.join("named/link")).unwrap(),
        Path::new("sub/deep")
    );
    // Again, over what is there now; and the content alone, into the directory itself.
    unpacked(&packed(&from, "named"), &into).unwrap();
    unpacked(&packed(&from, "."), &into).unwrap();
    assert_eq!(fs::read(into.join("twin")).unwrap(), b"content");
}

/// Kind, name and link of an entry.
type Attempt<'a> = (EntryType, &'a [u8], &'a [u8]);

fn archive(entries: &[Attempt<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, link) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(if *kind == EntryType::Regular { 5 } else { 0 });
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        let content: &[u8] = if *kind == EntryType::Regular {
            b"owned"
        } else {
            b""
        };
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn nothing_leads_out_of_the_directory() {
    use EntryType::{Link, Regular, Symlink};
    let attempts: [&[Attempt<'_>]; 7] = [
        &[(Regular, b"../secret/file", b"")],
        &[(Regular, b"/../secret/file", b"")],
        &[(Symlink, b"a", b"../secret"), (Regular, b"a/file", b"")],
        &[(Symlink, b"a", b"../secret/file"), (Regular, b"a", b"")],
        &[(Link, b"a", b"../secret/file"), (Regular, b"a", b"")],
        &[(Symlink, b"a", b".."), (Link, b"b", b"a/secret/file")],
        &[
            (Symlink, b"d", b"../secret"),
            (EntryType::Directory, b"d/x", b""),
        ],
    ];
    for entries in attempts {
        let dir = tempfile::tempdir().unwrap();
        let (into, secret) = (dir.path().join("into"), dir.path().join("secret"));
        fs::create_dir(&into).unwrap();
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("file"), b"mine").unwrap();
        let _ = unpacked(&archive(entries), &into);
        assert_eq!(
            fs::read(secret.join("file")).unwrap(),
            b"mine",
            "{entries:?}"
        );
        assert_eq!(fs::metadata(secret.join("file")).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 1, "{entries:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "{entries:?}");
    }
}

#[test]
fn directories_and_files_do_not_replace_each_other() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("f"), b"").unwrap();
    let error = unpacked(&archive(&[(EntryType::Regular, b"d", b"")]), dir.path()).unwrap_err();
    assert!(error.to_string().contains("overwrite directory"), "{error}");
    let error = unpacked(&archive(&[(EntryType::Directory, b"f", b"")]), dir.path()).unwrap_err();
    assert!(
        error.to_string().contains("overwrite non-directory"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_unpacked_inside(
        names in proptest::collection::vec("[a./]{1,12}", 1..6),
        links in proptest::collection::vec("[a./]{0,12}", 6),
        kinds in proptest::collection::vec(0usize..4, 6),
        damage in proptest::option::of((0usize..2000, any::<u8>())),
    ) {
        let kinds: Vec<_> = kinds
            .iter()
            .map(|n| [EntryType::Regular, EntryType::Symlink, EntryType::Link, EntryType::Directory][*n])
            .collect();
        let entries: Vec<_> = names
            .iter()
            .zip(&links)
            .zip(&kinds)
            .map(|((name, link), kind)| (*kind, name.as_bytes(), link.as_bytes()))
            .collect();
        let mut bytes = archive(&entries);
        if let Some((at, byte)) = damage
            && let Some(place) = bytes.get_mut(at)
        {
            *place = byte;
        }
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("into");
        fs::create_dir(&into).unwrap();
        let _ = unpacked(&bytes, &into);
        prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
