//! `run --console`: what a guest's kernel says, as it says it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread::JoinHandle;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Copies a file to standard error while it grows. Dropping it copies the rest.
#[derive(Debug)]
pub struct KernelLog {
    end: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl KernelLog {
    /// Follow this file, which the container's machine has not begun to write.
    pub fn follow(path: &Path) -> anyhow::Result<Self> {
        let what = || {
            format!(
                "following what the guest's kernel says in {}",
                path.display()
            )
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(what)?;
        }
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(true).write(true).read(true);
        let mut log = options.open(path).with_context(what)?;
        let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let changes = changes.with_context(what)?;
        let modified = AddWatchFlags::IN_MODIFY;
        changes.add_watch(path, modified).with_context(what)?;
        let (ended, end) = io::pipe().with_context(what)?;
        let copy = move || {
            if let Err(error) = copy(&mut log, &changes, &ended) {
                eprintln!("hull: warning: the guest's kernel is not shown any more: {error}");
            }
        };
        let thread = std::thread::Builder::new().name("kernel-log".to_owned());
        let thread = thread.spawn(copy).with_context(what)?;
        Ok(Self {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for KernelLog {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It has told what went wrong by itself.
            let _ = thread.join();
        }
    }
}

/// Copy until the other end of `ended` is closed, and then what is there still.
fn copy(log: &mut File, changes: &Inotify, ended: &PipeReader) -> io::Result<()> {
    loop {
        io::copy(log, &mut io::stderr())?;
        let mut fds = [
            PollFd::new(changes.as_fd(), PollFlags::POLLIN),
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_over = fds[1].any().unwrap_or(true);
        match changes.read_events() {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if is_over {
            return io::copy(log, &mut io::stderr()).map(drop);
        }
    }
}
