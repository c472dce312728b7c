//! Ending a container politely, then not; signals; pausing.

use std::io;
use std::time::Duration;

use guest_agent::protocol::{FrameKind, MAIN_PROCESS, Request, Signal};
use tokio::net::UnixStream;
use tokio::time::timeout as within;

use super::hub::Hub;
use crate::container::guest;
use crate::container::state::{State, Status};
use crate::events::Note;
use crate::frames;

const SIGKILL: i32 = 9;
/// How long a guest may take to carry out a SIGKILL before its machine is ended.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// Sends `signal`, waits up to `timeout` seconds (for ever without a number), then kills;
/// returns when the container has ended.
pub async fn stop(hub: &Hub, signal: i32, timeout: Option<u32>, by_user: bool) {
    if hub.machine.borrow().is_none() {
        // Between two runs there is nobody to ask.
        return cancel(hub, by_user).await;
    }
    want_end(hub, by_user);
    let mut ended = std::pin::pin!(hub.end());
    // A guest that cannot take a signal is killed by the steps below.
    let _ = within(KILL_GRACE, send_signal(hub, signal)).await;
    note(hub, &Note::new("kill").with("signal", signal));
    let _ = within(KILL_GRACE, thaw(hub)).await;
    let in_time = match timeout {
        None => {
            (&mut ended).await;
            true
        }
        Some(seconds) => {
            let limit = Duration::from_secs(seconds.into());
            within(limit, &mut ended).await.is_ok()
        }
    };
    if !in_time {
        let _ = within(KILL_GRACE, send_signal(hub, SIGKILL)).await;
        if within(KILL_GRACE, &mut ended).await.is_err() {
            let _ = hub.kill.send(()).await;
            (&mut ended).await;
        }
    }
    if by_user {
        note(hub, &Note::new("stop"));
    }
}

/// Ends the machine; returns when the container has ended.
pub async fn kill_machine(hub: &Hub) {
    want_end(hub, true);
    let mut progress = hub.progress();
    let _ = hub.kill.send(()).await;
    let _ = progress.wait_for(|p| p.over).await;
}

/// Changes what the machine may use of the host; a later one gets it from the record.
pub fn limit(hub: &Hub, limits: &vmm::HostLimits) -> Result<(), String> {
    match hub.machine.borrow_mut().as_mut() {
        Some(machine) => machine.limit(limits).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

/// Sends a signal to the first process; one that is meant to end the container ends its
/// restarts too.
pub async fn signal(hub: &Hub, signal: i32, ends: bool) -> Result<(), String> {
    if hub.machine.borrow().is_none() {
        if ends {
            cancel(hub, true).await;
            return Ok(());
        }
        let name = hub.record.get().name.clone();
        return Err(format!(
            "container {name} is restarting, wait until it is running"
        ));
    }
    let ended = hub.end();
    if ends {
        want_end(hub, true);
    }
    send_signal(hub, signal).await.map_err(|e| e.to_string())?;
    note(hub, &Note::new("kill").with("signal", signal));
    if ends {
        // As docker: what is to end must be able to, and who kills sees it ended.
        thaw(hub).await.map_err(|e| e.to_string())?;
        if signal == SIGKILL {
            let _ = within(KILL_GRACE, ended).await;
        }
    }
    Ok(())
}

/// Stops all processes where they are, or lets them go on.
pub async fn pause(hub: &Hub, on: bool) -> Result<(), String> {
    let (name, status) = {
        let container = hub.record.get();
        (container.name.clone(), container.state.status)
    };
    match (on, status) {
        (true, Status::Running) | (false, Status::Paused) => {}
        (true, Status::Paused) => return Err(format!("container {name} is already paused")),
        (true, _) => {
            return Err(format!(
                "container {name} is restarting, wait until it is running"
            ));
        }
        (false, _) => return Err(format!("container {name} is not paused")),
    }
    ask(hub, Request::Freeze(on))
        .await
        .map_err(|e| e.to_string())?;
    let action = if on { "pause" } else { "unpause" };
    hub.record
        .change(&[Note::new(action)], |state| state.pause(on))
        .map_err(|error| format!("{error:#}"))
}

/// No restart any more, and who said so.
fn want_end(hub: &Hub, by_user: bool) {
    hub.want_end();
    if by_user {
        let mark = |state: &mut State| {
            state.stopped_by_user = true;
            anyhow::Ok(())
        };
        if let Err(error) = hub.record.change(&[], mark) {
            eprintln!("hull supervisor: {error:#}");
        }
    }
}

async fn cancel(hub: &Hub, by_user: bool) {
    want_end(hub, by_user);
    let _ = hub.progress().wait_for(|p| p.over).await;
}

async fn thaw(hub: &Hub) -> io::Result<()> {
    if hub.record.get().state.status != Status::Paused {
        return Ok(());
    }
    ask(hub, Request::Freeze(false)).await?;
    hub.record
        .change(&[Note::new("unpause")], |state| state.pause(false))
        .map_err(io::Error::other)
}

/// Events are told as far as they can be: nothing else depends on them.
fn note(hub: &Hub, note: &Note) {
    let record = &hub.record;
    if let Err(error) = record
        .store()
        .note_container(&record.get().id, std::slice::from_ref(note))
    {
        eprintln!("hull supervisor: {error}");
    }
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
