//! Requests that no kernel sends: the guest's kernel may be somebody else's by now.
//!
//! The device is tested without its process's jail, so that what it refuses by itself shows.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::devices::testing::{BUFFERS, Driver, Piece, hostile, memory, turns};

const REQUEST: u64 = BUFFERS;
const REPLY: u64 = BUFFERS + 65536;
const REPLY_LEN: u32 = 8192;

const ROOT: u64 = 1;
const LOOKUP: u32 = 1;
const READLINK: u32 = 5;
const SYMLINK: u32 = 6;
const MKNOD: u32 = 8;
const MKDIR: u32 = 9;
const UNLINK: u32 = 10;
const RENAME: u32 = 12;
const LINK: u32 = 13;
const OPEN: u32 = 14;
const READ: u32 = 15;
const SETXATTR: u32 = 21;
const GETXATTR: u32 = 22;
const LISTXATTR: u32 = 23;
const REMOVEXATTR: u32 = 24;
const INIT: u32 = 26;
/// Reserves as much of the disk as it is told to.
const FALLOCATE: u32 = 43;

/// A shared directory beside a secret, with links to the secret in it.
fn shared() -> (TempDir, Fs) {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret"), "secret").unwrap();
    let inner = outer.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::create_dir(inner.join("deep")).unwrap();
    fs::write(inner.join("file"), "content").unwrap();
    symlink("../secret", inner.join("relative")).unwrap();
    symlink(outer.path().join("secret"), inner.join("absolute")).unwrap();
    let device = open(&inner);
    (outer, device)
}

/// A device that a kernel has begun to use.
fn open(directory: &Path) -> Fs {
    let share = Share::prepare(directory.to_str().unwrap()).unwrap();
    let mut device = share.open("tag").unwrap();
    let mut body = Vec::new();
    for word in [7u32, 38, 0, 0] {
        body.extend(word.to_le_bytes());
    }
    body.resize(64, 0);
    let (error, _) = ask(&mut device, INIT, 0, &body);
    assert_eq!(error, 0);
    device
}

fn header(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend((40 + body.len() as u32).to_le_bytes());
    request.extend(opcode.to_le_bytes());
    request.extend(7u64.to_le_bytes());
    request.extend(node.to_le_bytes());
    request.resize(40, 0);
    request.extend(body);
    request
}

/// Sends bytes to a queue of the device; what it wrote.
fn send(device: &mut Fs, request: &[u8]) -> Vec<u8> {
    let memory = memory();
    let (_, control) = Driver::new(&memory, 0);
    let (mut driver, queue) = Driver::new(&memory, 1);
    driver.write(REQUEST, request);
    let piece = |address, len, writable| Piece {
        address,
        len,
        writable,
    };
    driver.offer(&[
        piece(REQUEST, request.len() as u32, false),
        piece(REPLY, REPLY_LEN, true),
    ]);
    let mut queues = [control, queue];
    turns(&mut queues, |queues| device.queue_event(1, &memory, queues)).unwrap();
    let written = driver.used().unwrap();
    driver.read(REPLY, written as usize)
}

/// A well-formed request; the error and the rest of the answer.
fn ask(device: &mut Fs, opcode: u32, node: u64, body: &[u8]) -> (i32, Vec<u8>) {
    let reply = send(device, &header(opcode, node, body));
    let error = i32::from_le_bytes(reply[4..8].try_into().unwrap());
    (error, reply[16..].to_vec())
}

/// The number of what a name in a directory means, or the error.
fn lookup(device: &mut Fs, directory: u64, name: &str) -> Result<u64, i32> {
    let (error, answer) = ask(device, LOOKUP, directory, format!("{name}\0").as_bytes());
    match error {
        0 => Ok(u64::from_le_bytes(answer[..8].try_into().unwrap())),
        error => Err(error),
    }
}

fn read_all(device: &mut Fs, node: u64) -> Result<Vec<u8>, i32> {
    let (error, answer) = ask(device, OPEN, node, &[0; 8]);
    if error != 0 {
        return Err(error);
    }
    let mut body = answer[..8].to_vec();
    body.extend(0u64.to_le_bytes());
    body.extend(4096u32.to_le_bytes());
    body.resize(40, 0);
    let (error, data) = ask(device, READ, node, &body);
    if error == 0 { Ok(data) } else { Err(error) }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_driver_of_ones_own_reads_files() {
    let (_outer, mut device) = shared();
    let file = lookup(&mut device, ROOT, "file").unwrap();
    assert_eq!(read_all(&mut device, file).unwrap(), b"content");
}

#[test]
fn no_name_leads_out() {
    let (_outer, mut device) = shared();
    let deep = lookup(&mut device, ROOT, "deep").unwrap();
    for (directory, name) in [
        (ROOT, "../secret"),
        (ROOT, "deep/../../secret"),
        (ROOT, "/etc/passwd"),
        (ROOT, "./../secret"),
        (deep, "../../secret"),
        (ROOT, ""),
    ] {
        assert!(lookup(&mut device, directory, name).is_err(), "{name:?}");
    }
    // The parent of the shared directory is itself.
    for directory in [ROOT, deep] {
        let mut node = directory;
        for _ in 0..3 {
            node = match lookup(&mut device, node, "..") {
                Ok(node) => node,
                Err(_) => break,
            };
            assert!(lookup(&mut device, node, "secret").is_err());
        }
    }
}

#[test]
fn links_are_told_and_not_followed() {
    let (_outer, mut device) = shared();
    for name in ["relative", "absolute"] {
        let link = lookup(&mut device, ROOT, name).unwrap();
        assert!(read_all(&mut device, link).is_err());
        let (error, target) = ask(&mut device, READLINK, link, &[]);
        assert_eq!(error, 0);
        assert!(target.ends_with(b"secret"));
        // A link is no directory to look things up in.
        assert!(lookup(&mut device, link, "secret").is_err());
    }
}

#[test]
fn nothing_is_made_or_removed_outside() {
    let (outer, mut device) = shared();
    let (two_words, file) = ([0u8; 8], lookup(&mut device, ROOT, "file").unwrap());
    for name in ["../made", "deep/../../made", "/made", ".."] {
        let name = format!("{name}\0");
        let mkdir = [&two_words, name.as_bytes()].concat();
        assert_ne!(ask(&mut device, MKDIR, ROOT, &mkdir).0, 0);
        let mknod = [&[0xa4, 0x81, 0, 0][..], &[0; 12], name.as_bytes()].concat();
        assert_ne!(ask(&mut device, MKNOD, ROOT, &mknod).0, 0);
        let link = [&file.to_le_bytes(), name.as_bytes()].concat();
        assert_ne!(ask(&mut device, LINK, ROOT, &link).0, 0);
        let rename = [&ROOT.to_le_bytes(), &b"file\0"[..], name.as_bytes()].concat();
        assert_ne!(ask(&mut device, RENAME, ROOT, &rename).0, 0);
        let symlink = [name.as_bytes(), &b"target\0"[..]].concat();
        assert_ne!(ask(&mut device, SYMLINK, ROOT, &symlink).0, 0);
    }
    let rename = [&ROOT.to_le_bytes(), &b"../secret\0stolen\0"[..]].concat();
    assert_ne!(ask(&mut device, RENAME, ROOT, &rename).0, 0);
    assert_ne!(ask(&mut device, UNLINK, ROOT, b"../secret\0").0, 0);
    assert_eq!(names(outer.path()), ["inner", "secret"]);
    let inner = names(&outer.path().join("inner"));
    assert_eq!(inner, ["absolute", "deep", "file", "relative"]);
}

/// Two numbers and a name, as requests about attributes have them.
fn attribute(first: u32, name: &str) -> Vec<u8> {
    let mut body = first.to_le_bytes().to_vec();
    body.extend([0; 4]);
    body.extend(format!("{name}\0").as_bytes());
    body
}

#[test]
fn privileged_attributes_are_kept_and_cannot_be_forged() {
    let (_outer, mut device) = shared();
    let node = lookup(&mut device, ROOT, "deep").unwrap();
    let mut set = |node, name| {
        let body = [attribute(1, name), b"y".to_vec()].concat();
        ask(&mut device, SETXATTR, node, &body).0
    };
    assert_eq!(set(node, "user.own"), 0);
    assert_eq!(set(node, "trusted.overlay.opaque"), 0);
    assert_eq!(set(node, "user.hull.trusted.overlay.opaque"), -libc::EPERM);

    let mut get = |name| ask(&mut device, GETXATTR, node, &attribute(8, name));
    assert_eq!(get("trusted.overlay.opaque"), (0, b"y".to_vec()));
    let forged = get("user.hull.trusted.overlay.opaque").0;
    assert_eq!(forged, -libc::ENODATA);

    let own = b"user.own\0trusted.overlay.opaque\0";
    let size = own.len() as u32;
    let mut list = |size| ask(&mut device, LISTXATTR, node, &attribute(size, ""));
    assert_eq!(list(0).1[..4], size.to_le_bytes());
    assert_eq!(list(size - 1).0, -libc::ERANGE);
    let (error, listed) = list(size);
    let mut listed: Vec<_> = listed.split_inclusive(|byte| *byte == 0).collect();
    listed.sort_unstable();
    assert_eq!(
        (error, listed.concat()),
        (0, b"trusted.overlay.opaque\0user.own\0".to_vec())
    );

    let mut remove = |name: &str| {
        ask(
            &mut device,
            REMOVEXATTR,
            node,
            format!("{name}\0").as_bytes(),
        )
        .0
    };
    assert_eq!(remove("user.hull.trusted.overlay.opaque"), -libc::EPERM);
    assert_eq!(remove("trusted.overlay.opaque"), 0);
}

#[test]
fn a_link_cannot_have_what_overlayfs_can_do_without() {
    let (_outer, mut device) = shared();
    let node = lookup(&mut device, ROOT, "relative").unwrap();
    let mut set = |name| ask(&mut device, SETXATTR, node, &attribute(0, name)).0;
    assert_eq!(set("trusted.overlay.origin"), 0);
    assert_eq!(set("trusted.other"), -libc::EPERM);
}

/// The jail's part: the device's process sees the directory as a mount, whose end the kernel
/// knows although the directory that a request names has left it.
#[test]
fn a_directory_that_the_host_moves_out_leads_nowhere_above_itself() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: needs root");
        return;
    }
    // Mounts of its own for a thread of its own.
    let thread = std::thread::spawn(|| {
        let outer = tempfile::tempdir().unwrap();
        for name in ["inner", "inner/deep", "mount"] {
            fs::create_dir(outer.path().join(name)).unwrap();
        }
        fs::write(outer.path().join("secret"), "secret").unwrap();
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(none, "/", none, private, none).unwrap();
        let (inner, place) = (outer.path().join("inner"), outer.path().join("mount"));
        mount(Some(&inner), &place, none, MsFlags::MS_BIND, none).unwrap();
        let mut device = open(&place);
        let deep = lookup(&mut device, ROOT, "deep").unwrap();
        fs::rename(inner.join("deep"), outer.path().join("gone")).unwrap();
        assert!(lookup(&mut device, deep, "../secret").is_err());
        assert!(lookup(&mut device, deep, "..").is_err());
    });
    thread.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn garbage_is_answered_and_stays_inside(
        requests in prop::collection::vec((
            (0u32..64).prop_filter("fills the disk", |opcode| *opcode != FALLOCATE),
            prop_oneof![4 => 0u64..6, 1 => any::<u64>()],
            prop::collection::vec(any::<u8>(), 0..120),
            prop_oneof![4 => Just(None), 1 => any::<u32>().prop_map(Some)],
        ), 1..12),
    ) {
        let (outer, mut device) = shared();
        for (opcode, node, body, length) in requests {
            let mut request = header(opcode, node, &body);
            if let Some(length) = length {
                request[..4].copy_from_slice(&length.to_le_bytes());
            }
            let reply = send(&mut device, &request);
            prop_assert!(reply.is_empty() || reply.len() >= 16);
        }
        prop_assert_eq!(names(outer.path()), ["inner", "secret"]);
        prop_assert_eq!(fs::read(outer.path().join("secret")).unwrap(), b"secret");
    }

    #[test]
    fn hostile_rings_are_harmless(raw in hostile::descriptors(), heads in hostile::heads()) {
        let (outer, mut device) = shared();
        let memory = memory();
        let (_, control) = Driver::new(&memory, 0);
        let (mut driver, queue) = Driver::new(&memory, 1);
        for (index, address, len, flags, next) in raw {
            driver.write_raw(index, address, len, flags, next);
        }
        for head in heads {
            driver.publish(head);
        }
        let mut queues = [control, queue];
        // An error ends the machine; anything else is an answer.
        let _ = turns(&mut queues, |queues| device.queue_event(1, &memory, queues));
        prop_assert_eq!(names(outer.path()), ["inner", "secret"]);
    }
}
