//! `wait`: the answer's head comes at once, so that a client can wait before it starts.

use std::sync::Arc;

use guest_agent::protocol::{Exit, FrameKind};
use hyper::StatusCode;
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::attach::in_tokio;
use crate::container::client::{self, ClientError};
use crate::container::control::{ControlError, ControlRequest};
use crate::container::record::now_ns;
use crate::container::{Container, lifecycle};
use crate::events::Event;
use crate::frames;
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::reply::{Reply, answer};
use crate::serve::request::Call;
use crate::serve::state::Shared;
use crate::store::Found;

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    NotRunning,
    NextExit,
    Removed,
}

/// `POST /containers/ID/wait`.
pub async fn wait(state: Shared, call: Call, name: String) -> Reply {
    let condition = match call.query.get("condition") {
        None | Some("not-running") => Condition::NotRunning,
        Some("next-exit") => Condition::NextExit,
        Some("removed") => Condition::Removed,
        Some(other) => return Err(ApiError::bad(format!("invalid condition: {other:?}"))),
    };
    // Heard from before the container is looked at, so that nothing falls between.
    let ears = Ears {
        since: now_ns(),
        starts: state.starts.subscribe(),
        events: state.bus.subscribe(),
    };
    let container = state
        .work(move |context| Ok(lifecycle::find(context, &name)?))
        .await?;
    let (sender, body) = Body::stream();
    tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = outcome(&state, container, condition, ears) => outcome,
            () = sender.closed() => return,
        };
        let value = match outcome {
            Ok(code) => json!({"StatusCode": code}),
            Err(error) => json!({"StatusCode": 125, "Error": {"Message": error.message}}),
        };
        // A client that left needs no answer.
        let _ = sender.send_json(&value).await;
    });
    Ok(answer(StatusCode::OK, "application/json", body))
}

struct Ears {
    /// When it began to listen.
    since: i64,
    starts: Receiver<String>,
    events: Receiver<Arc<Event>>,
}

async fn outcome(
    state: &Shared,
    container: Container,
    condition: Condition,
    mut ears: Ears,
) -> Result<i32, ApiError> {
    let live = container.state.status.is_live();
    let code = match condition {
        Condition::NotRunning if !live => container.state.exit_code,
        _ if live => exit(state, &container, ears.since).await?,
        _ => next_exit(state, &container, &mut ears).await?,
    };
    if condition == Condition::Removed {
        while find(state, &container).await?.is_some() {
            removed(&container.id, &mut ears.events).await;
        }
    }
    Ok(code)
}

async fn find(state: &Shared, container: &Container) -> Result<Option<Container>, ApiError> {
    let id = container.id.clone();
    let found = state
        .work(move |context| Ok(context.find_container(&id)?))
        .await?;
    Ok(match found {
        Found::One(container) => Some(*container),
        Found::None | Found::Ambiguous => None,
    })
}

/// How a running container ends.
async fn exit(state: &Shared, container: &Container, since: i64) -> Result<i32, ApiError> {
    let target = container.clone();
    let asked = state
        .work(
            move |context| match client::ask(context, &target, &ControlRequest::Wait) {
                Ok(stream) => Ok(Some(stream)),
                // It ended in between.
                Err(ClientError::NotRunning(_) | ClientError::Control(ControlError::Gone)) => {
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            },
        )
        .await?;
    if let Some(stream) = asked
        && let Ok(Some(frame)) = frames::read(&mut in_tokio(stream)?).await
        && frame.kind == FrameKind::Exit
        && let Ok(exit) = serde_json::from_slice::<Exit>(&frame.payload)
    {
        return Ok(exit.code);
    }
    match find(state, container).await? {
        Some(now) => Ok(now.state.exit_code),
        None => removed_with(state, container, since).await,
    }
}

/// How a container ended that is no longer there: the journal says it.
async fn removed_with(state: &Shared, container: &Container, since: i64) -> Result<i32, ApiError> {
    let id = container.id.clone();
    let code = state
        .work(move |context| {
            let events = context.events(0, since, None)?;
            let mut ends = events.iter().filter(|e| e.actor == id && e.action == "die");
            let code = ends
                .next_back()
                .and_then(|event| event.attributes.get("exitCode"));
            Ok(code.and_then(|code| code.parse().ok()))
        })
        .await?;
    Ok(code.unwrap_or(container.state.exit_code))
}

/// How the next run of a container that does not run ends.
async fn next_exit(
    state: &Shared,
    container: &Container,
    ears: &mut Ears,
) -> Result<i32, ApiError> {
    loop {
        let event = tokio::select! {
            started = ears.starts.recv() => match started {
                Ok(id) if id == container.id => return exit(state, container, ears.since).await,
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(container.state.exit_code),
            },
            event = ears.events.recv() => event,
        };
        match event {
            Ok(event) if event.kind == "container" && event.actor == container.id => {
                match event.action.as_str() {
                    "start" => return exit(state, container, ears.since).await,
                    "die" => {
                        let code = event.attributes.get("exitCode");
                        return Ok(code.and_then(|code| code.parse().ok()).unwrap_or(0));
                    }
                    "destroy" => return removed_with(state, container, ears.since).await,
                    _ => {}
                }
            }
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => match find(state, container).await? {
                Some(now) if now.state.status.is_live() => {
                    return exit(state, &now, ears.since).await;
                }
                Some(now) if now.state.finished_at > container.state.finished_at => {
                    return Ok(now.state.exit_code);
                }
                Some(_) => {}
                None => return removed_with(state, container, ears.since).await,
            },
            Err(RecvError::Closed) => return Ok(container.state.exit_code),
        }
    }
}

/// Returns when a container was removed, or may have been.
async fn removed(id: &str, events: &mut Receiver<Arc<Event>>) {
    loop {
        match events.recv().await {
            Ok(event) if event.actor == id && event.action == "destroy" => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            // Nothing will be heard any more.
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}
