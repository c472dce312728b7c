//! A place in which what is fuzzed may change files, and reach no others.
//!
//! It is a thread whose root directory is a small file system in memory. The fuzzer itself,
//! which stores what it finds, keeps the host's files: the kernel knows root directories and
//! mounts per thread.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{LazyLock, Mutex};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, getgid, getuid, pivot_root};

/// How much fits into the file system.
const SIZE: &str = "size=8m,nr_inodes=2000,mode=0755";

/// The directory that is fuzzed, beside a secret.
const INNER: &str = "/inner";
const SECRET: &str = "/secret";

/// Work for the thread: bytes, and what to do with them in a directory.
type Work = (Vec<u8>, fn(&[u8], &Path));

struct Cell {
    work: SyncSender<Work>,
    done: Receiver<()>,
}

static CELL: LazyLock<Mutex<Cell>> = LazyLock::new(|| {
    let (work, todo) = sync_channel::<Work>(0);
    let (tell, done) = sync_channel(0);
    thread::spawn(move || {
        enter();
        for (bytes, function) in todo {
            prepare();
            function(&bytes, Path::new(INNER));
            check();
            tell.send(()).unwrap();
        }
    });
    Mutex::new(Cell { work, done })
});

/// Whoever is not root becomes the root of a user namespace. Must come before any thread.
pub fn initialize() {
    if getuid().is_root() {
        return;
    }
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER).unwrap();
    fs::write("/proc/self/setgroups", "deny").unwrap();
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
}

/// Let a function use bytes in a directory that is as new.
pub fn in_directory(bytes: &[u8], function: fn(&[u8], &Path)) {
    let cell = CELL.lock().unwrap();
    cell.work.send((bytes.to_vec(), function)).unwrap();
    cell.done.recv().unwrap();
}

/// Leave the host's files behind, but for the lists of this process's descriptors and mounts.
fn enter() {
    let none: Option<&str> = None;
    let namespaces = CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    unshare(namespaces).unwrap();
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(none, "/", none, private, none).unwrap();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("fuzz"), "/tmp", Some("tmpfs"), flags, Some(SIZE)).unwrap();
    // Of /proc what the file system device looks at.
    fs::create_dir_all("/tmp/proc/self/fd").unwrap();
    fs::write("/tmp/proc/self/mountinfo", "").unwrap();
    for path in ["/proc/self/fd", "/proc/self/mountinfo"] {
        let target = format!("/tmp{path}");
        mount(Some(path), target.as_str(), none, MsFlags::MS_BIND, none).unwrap();
    }
    chdir("/tmp").unwrap();
    pivot_root(".", ".").unwrap();
    umount2(".", MntFlags::MNT_DETACH).unwrap();
    chdir("/").unwrap();
}

fn prepare() {
    let _ = fs::remove_dir_all(INNER);
    fs::create_dir_all(Path::new(INNER).join("deep")).unwrap();
    fs::write(Path::new(INNER).join("file"), "content").unwrap();
    std::os::unix::fs::symlink(SECRET, Path::new(INNER).join("link")).unwrap();
    fs::write(SECRET, "secret").unwrap();
}

/// Nothing beside the directory has changed.
fn check() {
    assert_eq!(fs::read(SECRET).unwrap(), b"secret");
    let mut names: Vec<_> = fs::read_dir("/")
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["inner", "proc", "secret"]);
}
