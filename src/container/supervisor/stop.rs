//! Ending a container: politely, then not.

use std::io;
use std::time::Duration;

use guest_agent::protocol::{FrameKind, MAIN_PROCESS, Request, Signal};
use tokio::net::UnixStream;
use tokio::time::timeout as within;

use super::frames;
use super::hub::Hub;
use crate::container::guest;

const SIGKILL: i32 = 9;
/// How long a guest may take to carry out a SIGKILL before its machine is ended.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// Sends `signal`, waits up to `timeout` seconds (for ever without a number), then kills;
/// returns when the container has ended.
pub async fn stop(hub: &Hub, signal: i32, timeout: Option<u32>) {
    let mut progress = hub.progress();
    // A guest that cannot take a signal is killed by the steps below.
    let _ = within(KILL_GRACE, send_signal(hub, signal)).await;
    let ended = progress.wait_for(|p| p.exit.is_some());
    match timeout {
        None => {
            let _ = ended.await;
            return;
        }
        Some(seconds) => {
            if within(Duration::from_secs(seconds.into()), ended)
                .await
                .is_ok()
            {
                return;
            }
        }
    }
    let _ = within(KILL_GRACE, send_signal(hub, SIGKILL)).await;
    if within(KILL_GRACE, progress.wait_for(|p| p.exit.is_some()))
        .await
        .is_err()
    {
        kill_machine(hub).await;
    }
}

/// Ends the machine; returns when the container has ended.
pub async fn kill_machine(hub: &Hub) {
    let mut progress = hub.progress();
    let _ = hub.kill.send(()).await;
    let _ = progress.wait_for(|p| p.exit.is_some()).await;
}

async fn send_signal(hub: &Hub, signal: i32) -> io::Result<()> {
    let signal = Signal {
        process: MAIN_PROCESS.to_owned(),
        signal,
    };
    ask(hub, Request::Signal(signal)).await
}

/// Asks the agent something that is answered at once.
pub async fn ask(hub: &Hub, request: Request) -> io::Result<()> {
    let stream = hub.connect()?;
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    frames::write(&mut stream, FrameKind::Request, &guest::encode(request)?).await?;
    match frames::read(&mut stream).await.map_err(io::Error::other)? {
        Some(frame) => guest::decode(&frame.payload)
            .map(drop)
            .map_err(io::Error::other),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
