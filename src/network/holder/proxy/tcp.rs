//! TCP: every connection is carried on by one to the container.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Bytes that are moved at once. All connections share one buffer of this size, since each
/// passes on what it read before another has its turn; what a slow reader leaves waits apart.
const CHUNK: usize = 256 << 10;

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

/// Carries one direction to its end.
async fn pump(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut rest = Vec::new();
    loop {
        from.readable().await?;
        let ended = BUFFER.with_borrow_mut(|buffer| {
            let read = match from.try_read(buffer) {
                Ok(0) => return Ok(true),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
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
            return shut_down(to);
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
