//! Locks between processes, one per digest: who fetches a blob lets others wait for it.
//!
//! A lock belongs to an open file description, so the kernel drops it with the process that held
//! it, however it ended, and two threads of one process exclude each other like two processes.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::image::digest::Digest;

/// The right to fetch what a digest names, held until dropped.
#[derive(Debug)]
pub struct DigestLock {
    _file: File,
}

impl DigestLock {
    /// Waits for the lock; `waiting` is called once if another process holds it.
    pub fn wait(locks: &Path, digest: &Digest, waiting: impl FnOnce()) -> io::Result<Self> {
        let file = open(locks)?;
        if !lock_byte(&file, digest, false)? {
            waiting();
            lock_byte(&file, digest, true)?;
        }
        Ok(Self { _file: file })
    }

    /// Takes the lock unless somebody holds it.
    pub fn take(locks: &Path, digest: &Digest) -> io::Result<Option<Self>> {
        let file = open(locks)?;
        Ok(lock_byte(&file, digest, false)?.then_some(Self { _file: file }))
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Locks the one byte, far past the end of the file, whose offset the digest's first bytes say.
/// Two digests that share the offset merely wait for each other.
fn lock_byte(file: &File, digest: &Digest, wait: bool) -> io::Result<bool> {
    let [a, b, c, d, e, f, ..] = *digest.as_bytes();
    let range = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: i64::from_be_bytes([0, 0, a, b, c, d, e, f]),
        l_len: 1,
        l_pid: 0,
    };
    loop {
        let request = if wait {
            FcntlArg::F_OFD_SETLKW(&range)
        } else {
            FcntlArg::F_OFD_SETLK(&range)
        };
        match fcntl(file.as_fd(), request) {
            Ok(_) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN | Errno::EACCES) if !wait => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn one_holder_per_digest() {
        let dir = tempfile::tempdir().unwrap();
        let locks = dir.path().join("locks");
        let (one, two) = (Digest::of("one"), Digest::of("two"));
        let held = DigestLock::wait(&locks, &one, || panic!("nobody holds it")).unwrap();
        let _other = DigestLock::wait(&locks, &two, || panic!("nobody holds it")).unwrap();
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                DigestLock::wait(&locks, &one, || tell.send(()).unwrap()).unwrap();
            });
            told.recv().unwrap();
            drop(held);
        });
        DigestLock::wait(&locks, &one, || panic!("it was given back")).unwrap();
    }
}
