//! Waiting for many descriptors at once, on behalf of several owners.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What a descriptor is ready for, as epoll says it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readiness(pub(crate) u32);

impl Readiness {
    fn has(self, flags: EpollFlags) -> bool {
        EpollFlags::from_bits_truncate(self.0 as i32).intersects(flags)
    }

    /// Reading gives data, an end or an error.
    pub(crate) fn readable(self) -> bool {
        self.has(
            EpollFlags::EPOLLIN
                | EpollFlags::EPOLLRDHUP
                | EpollFlags::EPOLLHUP
                | EpollFlags::EPOLLERR,
        )
    }

    /// The other side is gone altogether.
    pub(crate) fn hung_up(self) -> bool {
        self.has(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
    }
}

/// One ready descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    /// Whose it is.
    pub(crate) owner: u32,
    /// Which of the owner's it is.
    pub(crate) token: u32,
    /// What it is ready for.
    pub(crate) readiness: u32,
}

/// A share in an epoll instance: the descriptors of one owner.
#[derive(Debug, Clone)]
pub(crate) struct Poller {
    epoll: Arc<Epoll>,
    owner: u32,
}

impl Poller {
    /// A new instance, used as owner 0.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        Ok(Self { epoll, owner: 0 })
    }

    /// The same instance for another owner.
    pub(crate) fn for_owner(&self, owner: u32) -> Self {
        Self {
            epoll: self.epoll.clone(),
            owner,
        }
    }

    fn event(&self, token: u32, flags: EpollFlags) -> EpollEvent {
        EpollEvent::new(flags, u64::from(self.owner) << 32 | u64::from(token))
    }

    /// Report a descriptor as long as it is readable.
    pub(crate) fn watch(&self, fd: BorrowedFd<'_>, token: u32) -> io::Result<()> {
        Ok(self.epoll.add(fd, self.event(token, EpollFlags::EPOLLIN))?)
    }

    /// Report a descriptor once for every time that it becomes readable.
    pub(crate) fn watch_edges(&self, fd: BorrowedFd<'_>, token: u32) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        Ok(self.epoll.add(fd, self.event(token, flags))?)
    }

    fn stream_event(&self, token: u32, writable: bool) -> EpollEvent {
        let mut flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        flags.set(EpollFlags::EPOLLOUT, writable);
        self.event(token, flags)
    }

    /// Report a stream for every time that it gets data or an end.
    pub(crate) fn watch_stream(&self, fd: BorrowedFd<'_>, token: u32) -> io::Result<()> {
        Ok(self.epoll.add(fd, self.stream_event(token, false))?)
    }

    /// Change whether a stream is reported for getting room to write.
    pub(crate) fn rearm_stream(
        &self,
        fd: BorrowedFd<'_>,
        token: u32,
        writable: bool,
    ) -> io::Result<()> {
        Ok(self
            .epoll
            .modify(fd, &mut self.stream_event(token, writable))?)
    }

    /// Report a descriptor no more.
    pub(crate) fn unwatch(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.epoll.delete(fd)?)
    }

    /// Wait until something is ready.
    pub(crate) fn wait(&self, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let count = loop {
            match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => break count,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        ready.clear();
        ready.extend(events.iter().take(count).map(|event| Ready {
            owner: (event.data() >> 32) as u32,
            token: event.data() as u32,
            readiness: event.events().bits() as u32,
        }));
        Ok(())
    }
}
