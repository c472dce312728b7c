//! Waiting for events.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Event;
use crate::container::record::now_ns;
use crate::store::{Store, StoreError};

/// How long after the last change what it brought can be read for sure.
const SETTLING_MS: u8 = 50;

/// Why following ended early.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The journal cannot be watched.
    #[error("watching the journal of events: {0}")]
    Watch(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whoever wanted them failed.
    #[error(transparent)]
    Taker(#[from] io::Error),
}

/// Gives `take` every event from `since` on and then those to come, until `until`, or without
/// one for ever.
pub fn follow(
    store: &Store,
    since: i64,
    until: Option<i64>,
    mut take: impl FnMut(&Event) -> io::Result<()>,
) -> Result<(), FollowError> {
    let failed = |error: Errno| FollowError::Watch(error.into());
    // Watched before the first read, so that nothing falls between.
    let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
    let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
    changes
        .add_watch(&store.paths().root, flags)
        .map_err(failed)?;
    let mut last = 0;
    let mut settled = true;
    loop {
        for event in store.events(last, since, until)? {
            take(&event)?;
            last = event.id;
        }
        let wait = match until {
            // The database says that it grew a moment before it shows what it grew by.
            _ if !settled => PollTimeout::from(SETTLING_MS),
            None => PollTimeout::NONE,
            Some(until) => {
                let left = until.saturating_sub(now_ns());
                if left <= 0 {
                    return Ok(());
                }
                // Rounded up; whoever waits longer than a poll can, polls again.
                let milliseconds = left / 1_000_000 + 1;
                PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut events = [PollFd::new(changes.as_fd(), PollFlags::POLLIN)];
        match poll(&mut events, wait) {
            Ok(ready) => settled = ready == 0,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(failed(error)),
        }
        match changes.read_events() {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
