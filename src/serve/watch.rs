//! Waiting for directories to change and for clients to leave.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::readiness;

/// Whoever is at the other end of a connection.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    socket: Option<Arc<OwnedFd>>,
    _place: Option<Arc<OwnedSemaphorePermit>>,
}

impl Peer {
    /// The peer of a connection, which takes one of the places that there are.
    pub fn new(socket: &impl AsFd, place: OwnedSemaphorePermit) -> io::Result<Self> {
        Ok(Self {
            socket: Some(Arc::new(socket.as_fd().try_clone_to_owned()?)),
            _place: Some(Arc::new(place)),
        })
    }

    /// Returns when the client has closed the connection in both directions.
    ///
    /// Reading cannot tell that from a client that only stopped sending.
    pub async fn gone(&self) {
        let watched = self.socket.as_ref().and_then(|socket| {
            let copy = socket.try_clone().ok()?;
            readiness::of(copy, Interest::WRITABLE).ok()
        });
        let Some(watched) = watched else {
            return std::future::pending().await;
        };
        while let Ok(mut ready) = watched.writable().await {
            if ready.ready().is_write_closed() {
                return;
            }
            ready.clear_ready();
        }
    }
}

/// Tells when something in a directory changed: one descriptor for all who want to know, because
/// a user has few of these.
#[derive(Debug)]
pub struct Watcher {
    inotify: Inotify,
    ready: AsyncFd<OwnedFd>,
    places: Mutex<HashMap<WatchDescriptor, watch::Sender<u64>>>,
}

impl Watcher {
    /// A watcher that tells as long as [`Watcher::run`] runs.
    pub fn new() -> io::Result<Self> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags)?;
        let copy = inotify.as_fd().try_clone_to_owned()?;
        Ok(Self {
            inotify,
            ready: readiness::of(copy, Interest::READABLE)?,
            places: Mutex::default(),
        })
    }

    /// Counts the changes in a directory from now on; the count ends with the directory.
    pub fn watch(&self, directory: &Path) -> io::Result<watch::Receiver<u64>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let inotify = &self.inotify;
        places.retain(|place, sender| {
            let wanted = sender.receiver_count() > 0;
            if !wanted {
                // The directory may have gone already.
                let _ = inotify.rm_watch(*place);
            }
            wanted
        });
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
        let place = inotify.add_watch(directory, flags)?;
        Ok(places.entry(place).or_default().subscribe())
    }

    /// Tells; never returns but for an error.
    pub async fn run(&self) -> io::Result<()> {
        loop {
            let mut ready = self.ready.readable().await?;
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        self.tell(event.wd, event.mask);
                    }
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tell(&self, place: WatchDescriptor, what: AddWatchFlags) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let add = |sender: &watch::Sender<u64>| sender.send_modify(|count| *count += 1);
        if what.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            places.values().for_each(add);
        } else if what.contains(AddWatchFlags::IN_IGNORED) {
            places.remove(&place);
        } else if let Some(sender) = places.get(&place) {
            add(sender);
        }
    }
}
