//! The control channel between a machine's creator and its VMM process.
//!
//! One `SOCK_SEQPACKET` socket pair: a packet is one JSON message, with the descriptors that
//! belong to it. The peer on the creator's side is trusted; the VMM process is not, once a
//! guest runs, so its messages are bounded and carry descriptors only where one is expected.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::launch::{Adoption, LaunchSpec, ShareSpec};
use crate::{BootTrace, NetworkPlace, StopReason};

/// The longest packet: a launch description with 200 layers is far below it.
const MAX_PACKET: usize = 64 * 1024;

/// The most descriptors that the kernel passes with one packet is 253.
pub(crate) const FDS_PER_PACKET: usize = 200;

/// From the creator to the VMM process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// The first packet to a process that was told to expect it: what to share. Its
    /// descriptors follow in [`Command::Descriptors`].
    Shares(Vec<ShareSpec>),
    /// The next packet: what to start. Its descriptors follow in [`Command::Descriptors`].
    Launch(LaunchSpec),
    /// Up to [`FDS_PER_PACKET`] of the descriptors.
    Descriptors,
    /// Connect the stream that comes along to a port of the guest.
    Connect {
        /// The vsock port.
        port: u32,
    },
    /// What a machine that waits is to be. Its descriptors follow in [`Command::Descriptors`].
    Adopt(Adoption),
    /// A network's side of the host comes along, or is there no longer.
    Network(NetworkPlace),
}

/// From the VMM process to the creator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// A child process stands; its pidfd comes along, so that the creator can kill it.
    Child,
    /// The agent listens; what it took, if that was asked for.
    Ready(Option<Box<BootTrace>>),
    /// The machine ended.
    Stopped(StopReason),
}

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// A connected pair, closed on exec.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self(a), Self(b)))
    }

    /// The channel over a descriptor that somebody else made.
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Give the descriptor up.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Another handle on the same end.
    pub(crate) fn duplicate(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Send one message with its descriptors.
    pub(crate) fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        loop {
            let sent = sendmsg::<()>(
                self.0.as_raw_fd(),
                &[IoSlice::new(&bytes)],
                control,
                MsgFlags::MSG_NOSIGNAL,
                None,
            );
            match sent {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receive one message; `None` when the peer is gone.
    pub(crate) fn receive<T: for<'a> Deserialize<'a>>(
        &self,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut buffer = vec![0; MAX_PACKET];
        let mut space = nix::cmsg_space!([RawFd; FDS_PER_PACKET]);
        let (len, fds) = loop {
            let mut iov = [IoSliceMut::new(&mut buffer)];
            let received = recvmsg::<()>(
                self.0.as_raw_fd(),
                &mut iov,
                Some(&mut space),
                MsgFlags::MSG_CMSG_CLOEXEC,
            );
            match received {
                Ok(message) => {
                    let mut fds = Vec::new();
                    for control in message.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(raw) = control {
                            // SAFETY: the kernel has just installed these descriptors for this
                            // message, and nothing else in the process knows their numbers.
                            fds.extend(raw.iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }));
                        }
                    }
                    let cut = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC;
                    if message.flags.intersects(cut) {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "control message is too long",
                        ));
                    }
                    break (message.bytes, fds);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        };
        if len == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(buffer.get(..len).unwrap_or_default())?;
        Ok(Some((message, fds)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn messages_arrive_whole_with_their_descriptors() {
        let (a, b) = Channel::pair().unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        a.send(&Command::Connect { port: 7 }, &[writer.as_fd()])
            .unwrap();
        a.send(&Command::Descriptors, &[]).unwrap();
        let (first, mut fds) = b.receive::<Command>().unwrap().unwrap();
        assert!(matches!(first, Command::Connect { port: 7 }));
        assert_eq!(fds.len(), 1);
        writer.write_all(b"x").unwrap();
        drop(writer);
        File::from(fds.remove(0)).write_all(b"y").unwrap();
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "xy");
        let (second, fds) = b.receive::<Command>().unwrap().unwrap();
        assert!(matches!(second, Command::Descriptors) && fds.is_empty());
        drop(a);
        assert!(b.receive::<Command>().unwrap().is_none());
    }

    #[test]
    fn garbage_is_an_error() {
        let (a, b) = Channel::pair().unwrap();
        nix::unistd::write(&a, b"not json").unwrap();
        assert!(b.receive::<Report>().is_err());
    }
}
