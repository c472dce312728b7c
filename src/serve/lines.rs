//! Progress as docker tells it: a JSON value per line, errors among them.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::body::{Body, Gone, Sender};
use super::error::ApiError;
use super::reply::{Reply, answer};
use super::state::{Context, Shared};
use crate::image::{Progress, Step};

/// Where an operation tells how far it is.
#[derive(Debug)]
pub struct Lines {
    sender: Sender,
    begun: Mutex<Option<oneshot::Sender<Result<(), ApiError>>>>,
}

impl Lines {
    fn begin(&self, how: Result<(), ApiError>) -> Option<Result<(), ApiError>> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        match begun.take() {
            Some(begun) => begun.send(how).err(),
            None => Some(how),
        }
    }

    /// Tells, once the client has taken enough of what was before.
    pub fn tell(&self, value: &Value) -> Result<(), Gone> {
        self.begin(Ok(()));
        self.sender.blocking_json(value)
    }

    /// Tells if the client is not behind; what comes next says more.
    fn hint(&self, value: &Value) {
        self.begin(Ok(()));
        self.sender.try_json(value);
    }
}

/// Answers with what `act` tells. What goes wrong before it has told anything is an error of
/// the request, later it is the last line.
pub async fn answer_with<F>(state: &Shared, act: F) -> Reply
where
    F: FnOnce(&Context, &Arc<Lines>) -> Result<(), ApiError> + Send + 'static,
{
    let context = state.for_slow_work().await?;
    let (sender, body) = Body::stream();
    let (begun, begins) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let lines = Arc::new(Lines {
            sender,
            begun: Mutex::new(Some(begun)),
        });
        let done = act(&context, &lines);
        if let Some(Err(error)) = lines.begin(done) {
            let value = json!({
                "errorDetail": {"code": error.code, "message": error.message},
                "error": error.message,
            });
            // A client that left hears nothing any more.
            let _ = lines.tell(&value);
        }
    });
    begins.await.map_err(ApiError::broken)??;
    Ok(answer(StatusCode::OK, "application/json", body))
}

impl Progress for Lines {
    fn line(&self, text: &str) {
        // As docker: what a sentence is about stands for itself.
        let value = match text.split_once(": Pulling from ") {
            Some((tag, name)) => json!({"status": format!("Pulling from {name}"), "id": tag}),
            None => json!({"status": text}),
        };
        // Whether the client is still there is asked at the end.
        let _ = self.tell(&value);
    }

    fn layer(&self, layer: &str, step: Step) {
        match step {
            Step::Downloading(current, total) | Step::Pushing(current, total) => {
                self.hint(&json!({
                    "status": step.text(),
                    "progressDetail": {"current": current, "total": total},
                    "id": layer,
                }));
            }
            step => {
                let value = json!({"status": step.text(), "progressDetail": {}, "id": layer});
                let _ = self.tell(&value);
            }
        }
    }
}
