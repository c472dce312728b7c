//! Shells in containers: what they write is the body of one answer, what is typed comes in
//! requests of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use guest_agent::protocol::FrameKind;
use hyper::StatusCode;
use tokio::sync::mpsc::Sender;

use super::super::body::Body;
use super::super::error::ApiError;
use super::super::exec;
use super::super::relay::{Feed, Input};
use super::super::reply::{self, Reply, answer};
use super::super::request::Call;
use super::super::state::{Shared, lock};

/// Shells at once.
const MOST: usize = 32;

/// The shells that are open.
#[derive(Debug, Default)]
pub struct Terminals(Arc<Mutex<HashMap<String, Sender<Input>>>>);

impl Terminals {
    /// A new shell; the answer's header names it, its body is what the shell writes.
    pub async fn open(&self, state: &Shared, call: &Call, container: &str) -> Reply {
        if lock(&self.0).len() >= MOST {
            return Err(ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too many terminals are open, close one",
            ));
        }
        let size = [
            call.query.number("rows")?.unwrap_or(24),
            call.query.number("columns")?.unwrap_or(80),
        ];
        let (id, feed) = exec::shell(state, container, size).await?;
        let Feed { mut output, input } = feed;
        lock(&self.0).insert(id.clone(), input);
        let (sender, body) = Body::stream();
        let (open, own) = (self.0.clone(), id.clone());
        let peer = call.peer.clone();
        tokio::spawn(async move {
            let talk = async {
                while let Some(frame) = output.recv().await {
                    let bytes = match frame.kind {
                        FrameKind::Stdout | FrameKind::Stderr => frame.payload.clone(),
                        FrameKind::Exit => break,
                        _ => continue,
                    };
                    if sender.send(bytes).await.is_err() {
                        break;
                    }
                }
            };
            tokio::select! {
                () = talk => {}
                () = peer.gone() => {}
            }
            let input = lock(&open).remove(&own);
            if let Some(input) = input {
                // A shell that nobody looks at ends: the end of its input, as a terminal has it.
                let _ = input.send(Input::Data(b"\x03\x04".to_vec())).await;
            }
        });
        let response = answer(StatusCode::OK, "application/octet-stream", body);
        Ok(reply::with_header(response, "x-hull-terminal", &id))
    }

    /// What was typed.
    pub async fn input(&self, id: &str, mut call: Call) -> Reply {
        let bytes = call.small_body().await?;
        let input = lock(&self.0).get(id).cloned();
        let input = input.ok_or_else(|| ApiError::missing("this terminal is closed"))?;
        // A shell that has ended says so on the other side.
        let _ = input.send(Input::Data(bytes.to_vec())).await;
        Ok(reply::empty())
    }
}
