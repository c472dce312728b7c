//! TCP: every connection is carried on by one to the container.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Bytes that are moved at once. All connections share one buffer of this size, since each
/// passes on what it read before another has its turn; what a slow reader leaves waits apart.
const CHUNK: usize = 256 << 10;

/// Bytes after which a direction gets a pipe of its own.
const BULK: u64 = 1 << 20;

/// The size of such a pipe.
const PIPE: i32 = 1 << 20;

/// How long to wait when the process has no descriptors left.
const BREATH: Duration = Duration::from_millis(50);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// Accepts connections until the task is dropped, which ends them all.
pub async fn serve(listener: TcpListener, target: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn_local(carry(client, target));
                }
                // Mostly a lack of descriptors: some will be free soon.
                Err(_) => tokio::time::sleep(BREATH).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection that breaks on one side breaks on the other.
async fn carry(client: TcpStream, target: SocketAddr) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    // Small messages are not to wait for more.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let broken = tokio::try_join!(pump(&client, &server), pump(&server, &client)).is_err();
    if broken {
        for stream in [client, server] {
            // The other side sees a reset, not an orderly end.
            let _ = stream.set_zero_linger();
        }
    }
}

/// Carries one direction to its end: little by copying, much by moving.
async fn pump(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let ended = copy(from, to, BULK).await?;
    if !ended {
        match Pipe::new() {
            Ok(pipe) => pipe.carry(from, to).await?,
            // A lack of descriptors.
            Err(_) => {
                copy(from, to, u64::MAX).await?;
            }
        }
    }
    shut_down(to)
}

/// Copies until `limit` is passed; whether the end came before.
async fn copy(from: &TcpStream, to: &TcpStream, limit: u64) -> io::Result<bool> {
    let mut copied = 0;
    let mut rest = Vec::new();
    while copied <= limit {
        from.readable().await?;
        let ended = BUFFER.with_borrow_mut(|buffer| {
            let read = match from.try_read(buffer) {
                Ok(0) => return Ok(true),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            copied += read as u64;
            let mut bytes = buffer.get(..read).unwrap_or_default();
            while !bytes.is_empty() {
                match to.try_write(bytes) {
                    Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            rest.extend_from_slice(bytes);
            Ok(false)
        })?;
        if ended {
            return Ok(true);
        }
        let mut done = 0;
        while let Some(bytes) = rest.get(done..).filter(|bytes| !bytes.is_empty()) {
            to.writable().await?;
            match to.try_write(bytes) {
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if rest.capacity() > 0 {
            rest = Vec::new();
        }
    }
    Ok(false)
}

/// Bytes on their way between two connections, without a copy in this process.
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        // Who has many pipes may not have large ones.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(PIPE));
        Ok(Self { read, write })
    }

    async fn carry(&self, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        let moved = |from: BorrowedFd<'_>, to: BorrowedFd<'_>, len| {
            Ok(splice(from, None, to, None, len, flags)?)
        };
        loop {
            from.readable().await?;
            let read = from.try_io(Interest::READABLE, || {
                moved(from.as_fd(), self.write.as_fd(), PIPE as usize)
            });
            let mut held = match read {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            while held > 0 {
                to.writable().await?;
                let written = to.try_io(Interest::WRITABLE, || {
                    moved(self.read.as_fd(), to.as_fd(), held)
                });
                match written {
                    Ok(written) => held -= written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// Says that nothing more comes; the other direction goes on.
fn shut_down(stream: &TcpStream) -> io::Result<()> {
    match shutdown(stream.as_raw_fd(), Shutdown::Write) {
        // It has gone already.
        Ok(()) | Err(Errno::ENOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn bytes_arrive_both_ways_whatever_blocks() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let work = async {
            let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = outside.local_addr().unwrap();
            let server = tokio::task::spawn_local(serve(outside, inside.local_addr().unwrap()));
            let mut client = TcpStream::connect(address).await.unwrap();
            let (mut container, _) = inside.accept().await.unwrap();
            let sent: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
            let (copy, mut got, mut back) = (sent.clone(), Vec::new(), Vec::new());
            let feed = async {
                client.write_all(&copy).await.unwrap();
                client.shutdown().await.unwrap();
                client.read_to_end(&mut back).await.unwrap();
            };
            let drain = async {
                container.read_to_end(&mut got).await.unwrap();
                container.write_all(&got[..1000]).await.unwrap();
                drop(container);
            };
            tokio::join!(feed, drain);
            assert!(got == sent && back == sent[..1000]);
            server.abort();
        };
        runtime.block_on(tokio::task::LocalSet::new().run_until(work));
    }
}
