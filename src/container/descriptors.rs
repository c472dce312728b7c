//! File descriptors that one process of hull hands to another: over a stream, or as a child's
//! standard input.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, UnixAddr, recvmsg, sendmsg,
};

/// Sends `descriptors` with one byte.
pub fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    sendmsg::<UnixAddr>(
        stream.as_raw_fd(),
        &[IoSlice::new(&[0])],
        &[ControlMessage::ScmRights(&raw)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives `N` descriptors and their byte; an end of file is an error of its own kind,
/// [`io::ErrorKind::UnexpectedEof`], as are fewer descriptors.
pub fn receive<const N: usize>(stream: &UnixStream) -> io::Result<[OwnedFd; N]> {
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; N]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message: RecvMsg<'_, '_, UnixAddr> =
        recvmsg(stream.as_raw_fd(), &mut buffers, Some(&mut space), flags)?;
    let mut received = Vec::with_capacity(N);
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part {
            for descriptor in descriptors {
                // SAFETY: the kernel has just made this descriptor for this message and gave
                // it to nobody else, so owning it here closes it exactly once.
                received.push(unsafe { OwnedFd::from_raw_fd(descriptor) });
            }
        }
    }
    received
        .try_into()
        .map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

/// Takes what this process was given as standard input, which becomes `/dev/null` so that no
/// child inherits it.
pub fn take_over_stdin() -> io::Result<OwnedFd> {
    let given = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(given)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn descriptors_arrive_in_order_and_alone() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let (other, _other_end) = io::pipe().unwrap();
        send(&a, &[writer.as_fd(), other.as_fd()]).unwrap();
        drop(writer);
        let [first, second] = receive::<2>(&b).unwrap();
        std::fs::File::from(first).write_all(b"through").unwrap();
        drop(second);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn fewer_descriptors_and_an_end_are_errors() {
        let (a, b) = UnixStream::pair().unwrap();
        send(&a, &[a.as_fd()]).unwrap();
        let kind = receive::<2>(&b).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::UnexpectedEof);
        drop(a);
        let kind = receive::<2>(&b).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::UnexpectedEof);
    }
}
