//! Sockets in a container that lead to the host.
//!
//! The agent listens before the container starts; the host asks for one relay after the other,
//! each of which takes one connection. So it is the host that connects, and a container reaches
//! nothing that the host does not hold out to it.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use guest_agent::protocol::ProvidedSocket;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Result, guest, invalid};

/// Where the sockets are before they are bound into the container; the agent's tree only.
pub const SOCKETS: &CStr = c"/sockets";

/// Bytes that are carried at once.
const PIECE: usize = 64 << 10;

/// Begins to listen on every socket.
pub fn listen(sockets: &[ProvidedSocket]) -> Result<BTreeMap<String, UnixListener>> {
    let directory = Path::new("/sockets");
    let mut listeners = BTreeMap::new();
    for socket in sockets {
        let name = &socket.name;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(invalid(format!(
                "{name:?} cannot name a socket, use letters and digits"
            )));
        }
        let path = directory.join(name);
        let make = || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(directory)?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&path)?;
            chown(&path, Some(socket.uid), Some(socket.gid))?;
            fs::set_permissions(&path, Permissions::from_mode(socket.mode & 0o7777))?;
            Ok(listener)
        };
        let listener = make().map_err(|e| guest(format!("cannot listen on {name}"), e))?;
        listeners.insert(name.clone(), listener);
    }
    Ok(listeners)
}

/// Takes one connection and carries what comes and goes, until one side ends.
pub fn carry(listener: OwnedFd, input: OwnedFd, output: OwnedFd) -> io::Result<()> {
    let listener = UnixListener::from(listener);
    let (mut input, mut output) = (File::from(input), File::from(output));
    // The host says nothing before somebody connects, unless it has had enough.
    if ready(&listener, &input)?.1 {
        return Ok(());
    }
    let (mut connection, _) = listener.accept()?;
    let mut piece = vec![0; PIECE];
    loop {
        let (said, answered) = ready(&connection, &input)?;
        if said && !pass(&mut connection, &mut output, &mut piece)? {
            return Ok(());
        }
        if answered && !pass(&mut input, &mut connection, &mut piece)? {
            return Ok(());
        }
    }
}

/// Waits until at least one can be read.
fn ready(one: &impl AsFd, other: &impl AsFd) -> io::Result<(bool, bool)> {
    let mut fds = [
        PollFd::new(one.as_fd(), PollFlags::POLLIN),
        PollFd::new(other.as_fd(), PollFlags::POLLIN),
    ];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
    Ok((is_ready(&fds[0]), is_ready(&fds[1])))
}

/// Passes on what can be read; false at the end.
fn pass(from: &mut impl Read, to: &mut impl Write, piece: &mut [u8]) -> io::Result<bool> {
    let count = match from.read(piece) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
        read => read?,
    };
    match to.write_all(piece.get(..count).unwrap_or_default()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| count > 0),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, pipe};
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    use super::*;

    fn begin(path: &Path) -> (PipeWriter, PipeReader, JoinHandle<io::Result<()>>) {
        let listener = OwnedFd::from(UnixListener::bind(path).unwrap());
        let (input, to_guest) = pipe().unwrap();
        let (from_guest, output) = pipe().unwrap();
        let relay = std::thread::spawn(move || carry(listener, input.into(), output.into()));
        (to_guest, from_guest, relay)
    }

    #[test]
    fn a_connection_is_carried_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (mut to_guest, mut from_guest, relay) = begin(&path);
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"question").unwrap();
        let mut said = [0; 8];
        from_guest.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"question");
        to_guest.write_all(b"answer").unwrap();
        let mut heard = [0; 6];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"answer");
        drop(client);
        relay.join().unwrap().unwrap();
    }

    #[test]
    fn a_relay_that_nobody_uses_ends_when_the_host_wants() {
        let dir = tempfile::tempdir().unwrap();
        let (to_guest, _from_guest, relay) = begin(&dir.path().join("s"));
        drop(to_guest);
        relay.join().unwrap().unwrap();
    }
}
