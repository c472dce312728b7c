//! Moving bytes between a connection and a process.
//!
//! Purpose: output is read only when the connection has taken what came before, input only
//! when the process has: each side holds at most one piece, and a slow reader slows down
//! the writer and nobody else. Pieces are read and written in place, in one buffer that
//! all share.

use guest_agent::protocol::{Exit, FrameKind, HEADER_LEN, decode_header, encode_header};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::{read, write};

use super::Agent;
use super::connection::{Broken, Connection, State};
use super::process::{Input, Output, Process, Role};

/// Bytes moved at once.
const PIECE: usize = 256 << 10;
/// Capacity of a pipe that carries much.
const PIPE: i32 = 512 << 10;
/// Pieces that one process may move before others get their turn.
const TURN: usize = 8;

/// What became of a process's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing more to do until the next event.
    Done,
    /// More could be done at once.
    More,
    /// The connection is no longer usable.
    Broken,
}

/// The buffer that all share. Fresh zero pages: only what is used is ever touched.
pub(super) fn scratch() -> Vec<u8> {
    vec![0; HEADER_LEN + PIECE]
}

impl Agent {
    /// Moves what can be moved for a process, and ends it when it is over.
    pub(super) fn pump(&mut self, key: u64) {
        let Some(process) = self.processes.get_mut(&key) else {
            return;
        };
        if process.setup.is_some() {
            return;
        }
        let mut connection = process
            .connection
            .and_then(|c| self.connections.get_mut(&c));
        let mut turn = transmit(connection.as_deref_mut(), process, &mut self.scratch);
        if let Some(connection) = connection
            && turn != Turn::Broken
        {
            match receive(connection, process, &mut self.scratch) {
                Ok(Turn::Done) => {}
                Ok(other) => turn = other,
                Err(_) => turn = Turn::Broken,
            }
        }
        match turn {
            Turn::Done => {}
            Turn::More => self.busy.push(key),
            Turn::Broken => {
                // The process goes on; its output is read and dropped from now on.
                if let Some(connection) = process.connection.take() {
                    self.connections.remove(&connection);
                }
                process.stdin = None;
                self.busy.push(key);
            }
        }
        self.finish(key);
    }

    /// Sends the exit of a process whose streams are at their end.
    fn finish(&mut self, key: u64) {
        let Some(process) = self.processes.get_mut(&key) else {
            return;
        };
        let Some(code) = process.exit else { return };
        let connection = process.connection;
        let drained = process.stdout.is_none() && process.stderr.is_none();
        if !drained && !process.failed && connection.is_some() {
            return;
        }
        let failed = process.failed;
        let role = process.role.clone();
        self.processes.remove(&key);
        let Some(connection) = connection.filter(|_| !failed) else {
            return;
        };
        let oom_killed = role != Role::Work && self.setup.cgroup.oom_killed();
        let payload = serde_json::to_vec(&Exit { code, oom_killed }).unwrap_or_default();
        if let Some(found) = self.connections.get_mut(&connection) {
            let sent = found.send_frame(FrameKind::Exit, &payload);
            found.state = State::Draining;
            if sent.is_err() {
                self.connections.remove(&connection);
            } else {
                self.serve(connection);
            }
        }
    }
}

/// From the process to the connection; without one, to nowhere.
fn transmit(
    mut connection: Option<&mut Connection>,
    process: &mut Process,
    scratch: &mut [u8],
) -> Turn {
    for _ in 0..TURN {
        if let Some(connection) = connection.as_deref_mut() {
            if connection.flush().is_err() {
                return Turn::Broken;
            }
            if !connection.is_flushed() {
                return Turn::Done;
            }
        }
        let Process {
            stdout,
            stderr,
            stderr_first,
            ..
        } = process;
        let readable = |o: &Option<Output>| o.as_ref().is_some_and(|o| o.readable);
        *stderr_first = readable(stderr) && (*stderr_first || !readable(stdout));
        let (kind, output) = match *stderr_first {
            true => (FrameKind::Stderr, stderr),
            false => (FrameKind::Stdout, stdout),
        };
        *stderr_first = !*stderr_first;
        if !readable(output) {
            return Turn::Done;
        }
        let Some(space) = scratch.get_mut(HEADER_LEN..) else {
            return Turn::Done;
        };
        let len = take(output, space);
        if len == 0 {
            continue;
        }
        if let Some(connection) = connection.as_deref_mut() {
            let (header, rest) = scratch.split_at_mut(HEADER_LEN);
            header.copy_from_slice(&encode_header(kind, len.min(rest.len())));
            let frame = scratch.get(..HEADER_LEN + len).unwrap_or_default();
            if connection.send(frame).is_err() {
                return Turn::Broken;
            }
        }
    }
    Turn::More
}

/// Reads from an output and keeps track of readiness and end; 0 when nothing came.
fn take(output: &mut Option<Output>, space: &mut [u8]) -> usize {
    let Some(source) = output.as_mut() else {
        return 0;
    };
    let wanted = source.limit.unwrap_or(space.len()).min(space.len());
    let space = space.get_mut(..wanted).unwrap_or_default();
    if wanted == 0 {
        *output = None;
        return 0;
    }
    match read(&source.fd, space) {
        // A terminal without processes fails with EIO.
        Ok(0) => *output = None,
        Ok(len) => {
            if let Some(limit) = source.limit.as_mut() {
                *limit -= len;
            }
            if len < wanted && !source.read_to_end {
                source.readable = false;
            }
            if len >= 32 << 10 && !source.grown {
                source.grown = true;
                let _ = fcntl(&source.fd, FcntlArg::F_SETPIPE_SZ(PIPE));
            }
            return len;
        }
        Err(Errno::EINTR) => {}
        Err(Errno::EAGAIN) if source.limit.is_none() => source.readable = false,
        Err(_) => *output = None,
    }
    0
}

/// From the connection to the process; without an input, to nowhere.
fn receive(
    connection: &mut Connection,
    process: &mut Process,
    scratch: &mut [u8],
) -> Result<Turn, Broken> {
    for _ in 0..TURN {
        let mut inbox = std::mem::take(&mut connection.inbox);
        let used = deliver(&inbox, &mut connection.payload_left, &mut process.stdin)?;
        inbox.drain(..used);
        let have = inbox.len();
        let held_up = connection.payload_left > 0 && have > 0;
        if held_up || !connection.readable {
            connection.inbox = inbox;
            return Ok(Turn::Done);
        }
        // What is left is a piece of a header; it goes before what comes.
        let Some(space) = scratch.get_mut(..PIECE) else {
            return Ok(Turn::Done);
        };
        let (front, rest) = space.split_at_mut(have);
        front.copy_from_slice(&inbox);
        let got = connection.receive(rest);
        let len = match got {
            Ok(0) => {
                // The peer sends nothing more; it may still read.
                process.stdin = None;
                connection.readable = false;
                return Ok(Turn::Done);
            }
            Ok(len) => len,
            Err(Errno::EAGAIN) => {
                connection.inbox = inbox;
                return Ok(Turn::Done);
            }
            Err(_) => return Err(Broken::Closed),
        };
        let bytes = scratch.get(..have + len).unwrap_or_default();
        let used = deliver(bytes, &mut connection.payload_left, &mut process.stdin)?;
        inbox.clear();
        inbox.extend_from_slice(bytes.get(used..).unwrap_or_default());
        connection.inbox = inbox;
    }
    Ok(Turn::More)
}

/// Takes frames apart and writes their payload to the input. Returns how many bytes were
/// used: all, unless the input is full or a header is incomplete.
fn deliver(
    bytes: &[u8],
    payload_left: &mut usize,
    stdin: &mut Option<Input>,
) -> Result<usize, Broken> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        if *payload_left == 0 {
            let Some(header) = rest.first_chunk::<HEADER_LEN>() else {
                return Ok(at);
            };
            at += HEADER_LEN;
            match decode_header(*header)? {
                (FrameKind::Stdin, len) => *payload_left = len,
                (FrameKind::StdinClose, 0) => *stdin = None,
                _ => return Err(Broken::NoRequest),
            }
            continue;
        }
        let piece = rest
            .get(..(*payload_left).min(rest.len()))
            .unwrap_or_default();
        if piece.is_empty() {
            return Ok(at);
        }
        let used = put(piece, stdin);
        at += used;
        *payload_left -= used;
        if used < piece.len() {
            return Ok(at);
        }
    }
}

/// Writes to an input and keeps track of readiness; an input that is gone takes all.
fn put(piece: &[u8], stdin: &mut Option<Input>) -> usize {
    let mut done = 0;
    while let Some(input) = stdin.as_mut() {
        let rest = piece.get(done..).unwrap_or_default();
        if rest.is_empty() || !input.writable {
            return done;
        }
        match write(&input.fd, rest) {
            Ok(len) => {
                done += len;
                if len < rest.len() && !input.grown {
                    input.grown = true;
                    let _ = fcntl(&input.fd, FcntlArg::F_SETPIPE_SZ(PIPE));
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => input.writable = false,
            Err(_) => *stdin = None,
        }
    }
    piece.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use proptest::prelude::*;

    /// Frames as the host sends them, and the bytes that the process must read.
    fn conversation() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let payload = proptest::collection::vec(any::<u8>(), 0..500);
        proptest::collection::vec(payload, 0..8).prop_map(|payloads| {
            let mut frames = Vec::new();
            for payload in &payloads {
                frames.extend_from_slice(&encode_header(FrameKind::Stdin, payload.len()));
                frames.extend_from_slice(payload);
            }
            frames.extend_from_slice(&encode_header(FrameKind::StdinClose, 0));
            (frames, payloads.concat())
        })
    }

    proptest! {
        #[test]
        fn input_arrives_whole_however_it_is_cut(
            (frames, expected) in conversation(),
            cuts in proptest::collection::vec(1usize..300, 1..40),
        ) {
            let (read_end, write_end) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
            let mut stdin = Some(Input { fd: write_end, writable: true, grown: true });
            let (mut left, mut inbox, mut at) = (0, Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                if at == frames.len() {
                    break;
                }
                let next = (at + cut).min(frames.len());
                inbox.extend_from_slice(&frames[at..next]);
                at = next;
                let used = deliver(&inbox, &mut left, &mut stdin).unwrap();
                inbox.drain(..used);
                prop_assert!(inbox.len() < HEADER_LEN);
            }
            prop_assert!(stdin.is_none() && inbox.is_empty());
            let mut seen = vec![0; expected.len() + 1];
            let len = if expected.is_empty() { 0 } else { read(&read_end, &mut seen).unwrap() };
            prop_assert_eq!(&seen[..len], &expected[..]);
            prop_assert_eq!(read(&read_end, &mut seen), Ok(0));
        }

        #[test]
        fn any_bytes_are_taken_or_refused_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), left in 0usize..50,
        ) {
            let mut left = left;
            if let Ok(used) = deliver(&bytes, &mut left, &mut None) {
                prop_assert!(bytes.len() - used < HEADER_LEN);
            }
        }
    }

    #[test]
    fn a_full_input_stops_the_connection_and_goes_on_later() {
        let (read_end, write_end) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        let mut stdin = Some(Input {
            fd: write_end,
            writable: true,
            grown: true,
        });
        let payload = vec![5; 200_000];
        let mut bytes = encode_header(FrameKind::Stdin, payload.len()).to_vec();
        bytes.extend_from_slice(&payload);
        let (mut left, mut at, mut seen) = (0, 0, 0);
        let mut space = vec![0; 10_000];
        while at < bytes.len() {
            let used = deliver(&bytes[at..], &mut left, &mut stdin).unwrap();
            at += used;
            if let Some(input) = stdin.as_mut().filter(|i| !i.writable) {
                seen += read(&read_end, &mut space).unwrap();
                input.writable = true;
            }
        }
        while let Ok(len) = read(&read_end, &mut space) {
            seen += len;
        }
        assert_eq!((seen, left), (payload.len(), 0));
    }
}
