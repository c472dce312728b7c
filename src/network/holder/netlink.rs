//! Netlink, as much as the holder needs: requests that the kernel carries out at once and
//! answers with success or an error.
//!
//! A crate for all of netlink would weigh more than the rest of the holder; what is sent here
//! is a dozen fixed messages, and nothing that anybody else wrote is parsed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const HEADER: usize = 16;
const NESTED: u16 = 1 << 15;

/// A request that is being put together.
#[derive(Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of this type; `flags` besides "a request" and "answer it".
    pub fn new(kind: u16, flags: libc::c_int) -> Self {
        let flags = flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        Self::bare(kind, flags)
    }

    /// A message with exactly these flags.
    pub fn bare(kind: u16, flags: libc::c_int) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
        Self { bytes }
    }

    /// What comes after the header, before any attribute.
    pub fn body(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// An attribute.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    /// An attribute with a text that ends in a zero byte.
    pub fn text(mut self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
        self
    }

    /// A number in network order, as netfilter wants them.
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// An attribute that holds attributes.
    pub fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.put(kind | NESTED, &[]);
        let mut filled = fill(self);
        let len = (filled.bytes.len() - start) as u16;
        filled.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        filled
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let len = (value.len() + 4) as u16;
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A socket to the kernel. It belongs to the network namespace that it was made in.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// For interfaces, addresses and routes.
    pub fn route() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    /// For packet filters.
    pub fn netfilter() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkNetFilter)
    }

    fn open(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Has the kernel carry out one request.
    pub fn request(&mut self, message: Message) -> io::Result<()> {
        self.batch(vec![message])
    }

    /// Has the kernel carry out requests, which travel together.
    pub fn batch(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend(message.finish(self.sequence));
        }
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        self.answers()
    }

    /// The kernel has answered by the time that sending returns.
    fn answers(&self) -> io::Result<()> {
        let mut outcome = Err(io::Error::other("the kernel did not answer"));
        let mut failed = false;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let len = match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => len,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return outcome,
                Err(error) => return Err(error.into()),
            };
            for code in errors(buffer.get(..len).unwrap_or_default()) {
                // The first error is the cause of any other.
                if failed {
                    continue;
                }
                outcome = match code {
                    0 => Ok(()),
                    code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                };
                failed = code != 0;
            }
        }
    }
}

/// The codes of the acknowledgements and errors in what the kernel sent.
fn errors(mut bytes: &[u8]) -> Vec<i32> {
    let mut codes = Vec::new();
    let number = |bytes: &[u8], at: usize| {
        let four = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(four.try_into().ok()?))
    };
    while let Some(len) = number(bytes, 0).map(|len| len as usize) {
        if len < HEADER || len > bytes.len() {
            break;
        }
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        if i32::from(kind) == libc::NLMSG_ERROR
            && let Some(code) = number(bytes, HEADER)
        {
            codes.push(code as i32);
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_laid_out_as_the_kernel_reads_them() {
        let message = Message::new(16, 0)
            .body(&[1, 2, 3])
            .text(3, "br0")
            .nested(18, |m| m.attribute(1, &[7]));
        let bytes = message.finish(9);
        assert_eq!(bytes.len(), 16 + 4 + 8 + 4 + 8);
        assert_eq!(bytes[..4], 40u32.to_ne_bytes());
        assert_eq!(bytes[8..12], 9u32.to_ne_bytes());
        assert_eq!(&bytes[16..20], &[1, 2, 3, 0]);
        assert_eq!(&bytes[24..28], b"br0\0");
        assert_eq!(bytes[28..30], 12u16.to_ne_bytes());
        assert_eq!(bytes[30..32], (18 | NESTED).to_ne_bytes());
    }

    #[test]
    fn a_real_kernel_answers() {
        let mut socket = Socket::route().unwrap();
        // RTM_SETLINK of an interface that is not there.
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        let error = socket
            .request(Message::new(19, 0).body(&body))
            .unwrap_err()
            .raw_os_error();
        assert!(
            error == Some(libc::ENODEV) || error == Some(libc::EPERM),
            "{error:?}"
        );
    }

    #[test]
    fn nonsense_holds_no_answers() {
        assert!(errors(&[]).is_empty());
        assert!(errors(&[1; 15]).is_empty());
        assert!(errors(&[0xff; 64]).is_empty());
    }
}
