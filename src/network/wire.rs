//! What a supervisor and the holder say to each other: frames of JSON, and descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use guest_agent::protocol::{FrameKind, read_frame, write_frame};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, UnixAddr, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ports::Protocol;

/// Changes when a holder and a supervisor of different versions would misunderstand each other.
pub const VERSION: u32 = 2;

/// Descriptors in one message; the kernel takes up to 253.
const BATCH: usize = 128;

/// The most descriptors that one side sends.
const MOST: usize = 16_384;

/// A supervisor wants its container linked: to networks, or its published ports to it. The
/// listening sockets of `ports` follow, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRequest {
    /// [`VERSION`].
    pub version: u32,
    /// The container's id.
    pub container: String,
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// Its published ports.
    pub ports: Vec<Published>,
    /// Where they lead: one of its addresses.
    pub target: Option<Ipv4Addr>,
    /// Name servers for what is no container's name; the host's when there are none.
    pub dns: Vec<IpAddr>,
    /// Addresses of the host, which containers do not reach.
    pub host_addresses: Vec<IpAddr>,
    /// The one of them that this container reaches all the same (`host-gateway`).
    pub host_gateway: Option<Ipv4Addr>,
}

/// An interface of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The network it is in.
    pub network: Segment,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its address.
    pub ipv4: Ipv4Addr,
    /// Its other address.
    pub ipv6: Option<Ipv6Addr>,
    /// What other members of the network call it.
    pub names: Vec<String>,
}

impl Interface {
    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [IpAddr::V4(self.ipv4)]
            .into_iter()
            .chain(self.ipv6.map(IpAddr::V6))
    }
}

/// A network, as far as its bridge goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The network's id.
    pub id: String,
    /// The bridge's name.
    pub bridge: String,
    /// The bridge's address and how many bits of it are the network's.
    pub ipv4: (Ipv4Addr, u8),
    /// Its other address.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    /// Nothing leads outside.
    pub internal: bool,
    /// Whether members are found by their names.
    pub names: bool,
}

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The container's port.
    pub port: u16,
}

/// What a supervisor may send over a link that stands: what its interfaces' names are now. The
/// answer is a [`LinkReply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renaming {
    /// As [`Interface::names`].
    pub names: Vec<String>,
}

/// The holder's answer; the TAP devices follow, in the order of the interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReply {
    /// Why there is no link.
    pub error: Option<String>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}

/// Sends a message.
pub fn send(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    write_frame(stream, FrameKind::Request, &json).map_err(io::Error::other)
}

/// Reads a message; an end of the stream is an error.
pub fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let frame = read_frame(stream).map_err(|error| match error {
        guest_agent::protocol::FrameError::Io(error) => error,
        other => io::Error::other(other),
    })?;
    let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_slice(&frame.payload)?)
}

/// Sends descriptors.
pub fn send_descriptors(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for batch in descriptors.chunks(BATCH) {
        let numbers: Vec<_> = batch.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let byte = [IoSlice::new(&[0])];
        sendmsg::<UnixAddr>(
            stream.as_raw_fd(),
            &byte,
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
    }
    Ok(())
}

/// Reads so many descriptors.
pub fn receive_descriptors(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    if count > MOST {
        return Err(io::Error::other(format!("{count} descriptors at once")));
    }
    let mut received = Vec::with_capacity(count);
    while received.len() < count {
        let mut byte = [0];
        let mut buffers = [IoSliceMut::new(&mut byte)];
        let mut space = nix::cmsg_space!([i32; BATCH]);
        let message: RecvMsg<'_, '_, UnixAddr> = recvmsg(
            stream.as_raw_fd(),
            &mut buffers,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let before = received.len();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                // SAFETY: the kernel has just made these descriptors for this message and
                // gave them to nobody else, so each is owned here once.
                received.extend(
                    numbers
                        .into_iter()
                        .map(|n| unsafe { OwnedFd::from_raw_fd(n) }),
                );
            }
        }
        if received.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn messages_and_descriptors_arrive() {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        let reply = LinkReply {
            error: None,
            warnings: vec!["x".into()],
        };
        let null = std::fs::File::open("/dev/null").unwrap();
        let many = vec![null.as_fd(); 300];
        let sender = std::thread::spawn({
            let reply = reply.clone();
            let null = null.try_clone().unwrap();
            move || {
                send(&mut a, &reply).unwrap();
                send_descriptors(&a, &vec![null.as_fd(); 300]).unwrap();
            }
        });
        assert_eq!(receive::<LinkReply>(&mut b).unwrap(), reply);
        assert_eq!(receive_descriptors(&b, many.len()).unwrap().len(), 300);
        sender.join().unwrap();
        assert!(receive::<LinkReply>(&mut b).is_err());
        assert!(receive_descriptors(&b, MOST + 1).is_err());
    }
}
