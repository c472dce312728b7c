//! Health checks of a running container, one after the other.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use guest_agent::protocol::{Exec, Exit, FrameKind, Request, Signal, Stdio};
use tokio::net::UnixStream;

use super::hub::Hub;
use super::stop;
use crate::container::health::{Check, MAX_OUTPUT, Outcome};
use crate::container::record::now_ns;
use crate::container::spec::{ProcessOptions, process_spec};
use crate::container::state::Status;
use crate::container::{guest, id};
use crate::events::Note;
use crate::frames;

/// The exit code of a check that did not run to its end, docker's.
const NO_RESULT: i32 = -1;
/// How long a check that took too long may take to be killed.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// Checks until the task is dropped; a container without a check is left alone.
pub async fn watch(hub: Rc<Hub>) {
    let (check, argv) = {
        let config = &hub.record.get().config;
        let Some(check) = config.health.clone() else {
            return;
        };
        let Some(argv) = check.argv(&config.shell) else {
            return;
        };
        (check, argv)
    };
    loop {
        let wait = {
            let state = &hub.record.get().state;
            let status = state.health.as_ref().map(|health| health.status);
            let age = u64::try_from(now_ns().saturating_sub(state.started_at)).unwrap_or(0);
            check.wait(status.unwrap_or_default(), Duration::from_nanos(age))
        };
        tokio::time::sleep(wait).await;
        // What stands still cannot answer, and is not ill for that.
        if hub.record.get().state.status != Status::Running {
            continue;
        }
        let outcome = probe(&hub, &check, &argv).await;
        if let Err(error) = record(&hub, &check, outcome) {
            eprintln!("hull supervisor: {error:#}");
        }
    }
}

fn record(hub: &Hub, check: &Check, outcome: Outcome) -> anyhow::Result<()> {
    let state = hub.record.get().state.clone();
    // It was paused or ended meanwhile, which is no illness.
    if state.status != Status::Running {
        return Ok(());
    }
    let mut health = state.health.unwrap_or_default();
    let changed = health.record(check, state.started_at, outcome);
    let note = Note::new(format!("health_status: {}", health.status.as_str()));
    let notes = if changed { vec![note] } else { Vec::new() };
    hub.record.change(&notes, |state| {
        state.health = Some(health);
        anyhow::Ok(())
    })
}

async fn probe(hub: &Hub, check: &Check, argv: &[String]) -> Outcome {
    let start = now_ns();
    let mut output = Vec::new();
    let name = match id::random_bytes::<8>() {
        Ok(bytes) => bytes.iter().map(|b| format!("{b:02x}")).collect::<String>(),
        Err(error) => return outcome(start, NO_RESULT, &error.to_string()),
    };
    let limit = check.timeout();
    let run = run(hub, &name, argv, &mut output);
    match tokio::time::timeout(limit, run).await {
        Ok(Ok(exit)) => outcome(start, exit.code, &String::from_utf8_lossy(&output)),
        Ok(Err(error)) => outcome(start, NO_RESULT, &error.to_string()),
        Err(_) => {
            let signal = Signal {
                process: name,
                signal: nix::sys::signal::Signal::SIGKILL as i32,
            };
            // One that has just ended needs no signal.
            let _ = tokio::time::timeout(KILL_GRACE, stop::ask(hub, Request::Signal(signal))).await;
            let said = String::from_utf8_lossy(&output);
            let text = format!("Health check exceeded timeout ({limit:?}): {said}");
            outcome(start, NO_RESULT, text.trim_end_matches([':', ' ']))
        }
    }
}

fn outcome(start: i64, exit_code: i32, output: &str) -> Outcome {
    Outcome {
        start,
        end: now_ns(),
        exit_code,
        output: output.to_owned(),
    }
}

/// Runs the check in the container; what it writes beyond a few kilobytes is dropped.
async fn run(hub: &Hub, name: &str, argv: &[String], output: &mut Vec<u8>) -> io::Result<Exit> {
    let exec = {
        let config = &hub.record.get().config;
        let options = ProcessOptions {
            argv: argv.to_vec(),
            privileged: config.privileged,
            ..ProcessOptions::default()
        };
        Exec {
            id: name.to_owned(),
            process: process_spec(config, &options).map_err(io::Error::other)?,
            user: config.user.clone(),
            groups: config.groups.clone(),
            stdio: Stdio::default(),
        }
    };
    let stream = hub.connect()?;
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    let request = guest::encode(Request::Exec(Box::new(exec)))?;
    frames::write(&mut stream, FrameKind::Request, &request).await?;
    let mut answered = false;
    while let Some(frame) = frames::read(&mut stream).await.map_err(io::Error::other)? {
        match frame.kind {
            FrameKind::Response if !answered => {
                guest::decode(&frame.payload).map_err(io::Error::other)?;
                answered = true;
            }
            FrameKind::Exit => return serde_json::from_slice(&frame.payload).map_err(Into::into),
            FrameKind::Stdout | FrameKind::Stderr => {
                let room = MAX_OUTPUT.saturating_sub(output.len());
                output.extend(frame.payload.into_iter().take(room));
            }
            _ => {}
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
