//! What the child tells the agent before its program runs.
//!
//! Purpose: the agent answers a start exactly: with the child's own error sentence, or,
//! when this channel closes by the exec itself, with success.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use guest_agent::protocol::{AgentError, ErrorKind};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

use crate::sys::io::adopt;

/// Longer messages are cut; both sides hold one in a buffer.
const MAX_TEXT: usize = 8 * 1024;

/// The child's end.
#[derive(Debug)]
pub struct Reporter(OwnedFd);

/// The agent's end, non-blocking.
#[derive(Debug)]
pub struct Reports(OwnedFd);

/// What a child said.
#[derive(Debug)]
pub enum Report {
    /// The program is about to be run.
    Ready {
        /// For the user.
        warnings: Vec<String>,
        /// The terminal's agent end and the container's devpts, where they exist.
        terminal: Option<OwnedFd>,
        /// See `terminal`.
        devpts: Option<OwnedFd>,
    },
    /// It could not be run.
    Failed(AgentError),
    /// The channel is closed.
    Closed,
}

/// Creates both ends.
pub fn channel() -> nix::Result<(Reports, Reporter)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (agent, child) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok((Reports(agent), Reporter(child)))
}

impl Reporter {
    /// Says that the program is about to be run.
    pub fn ready(
        &self,
        warnings: &[String],
        terminal: Option<&OwnedFd>,
        devpts: Option<&OwnedFd>,
    ) -> nix::Result<()> {
        let mut text = vec![
            b'R',
            u8::from(terminal.is_some()),
            u8::from(devpts.is_some()),
        ];
        for warning in warnings {
            text.extend_from_slice(warning.as_bytes());
            text.push(b'\n');
        }
        let fds: Vec<RawFd> = terminal
            .into_iter()
            .chain(devpts)
            .map(AsRawFd::as_raw_fd)
            .collect();
        self.send(&text, &fds)
    }

    /// Says why the program cannot be run.
    pub fn failed(&self, error: &AgentError) {
        let mut text = vec![b'E', kind_number(error.kind), 0];
        text.extend_from_slice(error.message.as_bytes());
        // When even this fails the agent sees a child that died in its setup.
        let _ = self.send(&text, &[]);
    }

    fn send(&self, text: &[u8], fds: &[RawFd]) -> nix::Result<()> {
        let text = [IoSlice::new(text.get(..MAX_TEXT).unwrap_or(text))];
        let rights = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &text,
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map(drop)
    }
}

impl Reports {
    /// The descriptor to wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }

    /// Takes one message; `None` when there is none yet.
    pub fn receive(&self) -> Option<Report> {
        let mut text = [0u8; MAX_TEXT];
        let mut buffers = [IoSliceMut::new(&mut text)];
        let mut control = nix::cmsg_space!([RawFd; 2]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let received = recvmsg::<()>(self.0.as_raw_fd(), &mut buffers, Some(&mut control), flags);
        let (len, mut fds) = match received {
            Ok(message) => {
                let rights = message.cmsgs().into_iter().flatten().find_map(|c| match c {
                    ControlMessageOwned::ScmRights(fds) => Some(fds),
                    _ => None,
                });
                (message.bytes, rights.unwrap_or_default().into_iter())
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return None,
            Err(_) => return Some(Report::Closed),
        };
        let mut next = |wanted: u8| {
            if wanted == 1 {
                fds.next().and_then(|fd| adopt(fd).ok())
            } else {
                None
            }
        };
        Some(match text.get(..len).unwrap_or_default() {
            [b'R', terminal, devpts, rest @ ..] => Report::Ready {
                terminal: next(*terminal),
                devpts: next(*devpts),
                warnings: String::from_utf8_lossy(rest)
                    .lines()
                    .map(str::to_owned)
                    .collect(),
            },
            [b'E', kind, _, rest @ ..] => Report::Failed(AgentError {
                kind: number_kind(*kind),
                message: String::from_utf8_lossy(rest).into_owned(),
            }),
            _ => Report::Closed,
        })
    }
}

const KINDS: [ErrorKind; 6] = [
    ErrorKind::NotFound,
    ErrorKind::NotExecutable,
    ErrorKind::NoSuchProcess,
    ErrorKind::Invalid,
    ErrorKind::Guest,
    ErrorKind::Version,
];

fn kind_number(kind: ErrorKind) -> u8 {
    KINDS.iter().position(|k| *k == kind).unwrap_or(4) as u8
}

fn number_kind(number: u8) -> ErrorKind {
    KINDS
        .get(usize::from(number))
        .copied()
        .unwrap_or(ErrorKind::Guest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive() {
        let (agent, child) = channel().unwrap();
        assert!(agent.receive().is_none());
        let (one, two) = nix::unistd::pipe().unwrap();
        child
            .ready(
                &["careful".to_owned(), "twice".to_owned()],
                Some(&one),
                Some(&two),
            )
            .unwrap();
        let Some(Report::Ready {
            warnings,
            terminal,
            devpts,
        }) = agent.receive()
        else {
            panic!()
        };
        assert_eq!(warnings, ["careful", "twice"]);
        nix::unistd::write(devpts.unwrap(), b"x").unwrap();
        assert_eq!(nix::unistd::read(terminal.unwrap(), &mut [0; 4]), Ok(1));

        child.failed(&AgentError {
            kind: ErrorKind::NotFound,
            message: "m".repeat(20_000),
        });
        drop(child);
        let Some(Report::Failed(error)) = agent.receive() else {
            panic!()
        };
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert_eq!(error.message.len(), MAX_TEXT - 3);
        assert!(matches!(agent.receive(), Some(Report::Closed)));
    }

    #[test]
    fn every_kind_has_a_number() {
        for kind in KINDS {
            assert_eq!(number_kind(kind_number(kind)), kind);
        }
    }
}
