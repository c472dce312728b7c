//! The server itself: `_ping`, `version`, `info`, `events`.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue, PRAGMA};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::body::{Body, Gone, Sender};
use super::error::ApiError;
use super::filters;
use super::reply::{Reply, answer, json};
use super::request::Call;
use super::state::Shared;
use super::{API_VERSION, MIN_API_VERSION};
use crate::arch::dispatch;
use crate::container::record::now_ns;
use crate::events::{Event, Filter};
use crate::image;
use crate::system::{host, info};
use crate::time::parse_time;

/// A version of the API as text.
pub fn version_text((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// `GET /_ping` and `HEAD /_ping`.
pub fn ping() -> Reply {
    let mut response = answer(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        Body::Whole("OK".into()),
    );
    let headers = response.headers_mut();
    let never = HeaderValue::from_static("no-cache, no-store, must-revalidate");
    headers.insert(CACHE_CONTROL, never);
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    // The classic builder: BuildKit's protocol is not spoken.
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    Ok(response)
}

/// `GET /version`.
pub fn version() -> Reply {
    let (version, api) = (env!("CARGO_PKG_VERSION"), version_text(API_VERSION));
    let arch = dispatch::host_architecture();
    let oldest = version_text(MIN_API_VERSION);
    let kernel = host::host().kernel;
    Ok(json(&json!({
        "Platform": {"Name": "hull"},
        "Components": [{
            "Name": "Engine",
            "Version": version,
            "Details": {
                "ApiVersion": api,
                "MinAPIVersion": oldest,
                "Arch": arch.to_string(),
                "Os": "linux",
                "KernelVersion": kernel,
                "Experimental": "false",
                "GitCommit": "",
                "GoVersion": "",
                "BuildTime": "",
            },
        }],
        "Version": version,
        "ApiVersion": api,
        "MinAPIVersion": oldest,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": arch.to_string(),
        "KernelVersion": kernel,
        "BuildTime": "",
    })))
}

/// `GET /info`.
pub async fn info(state: Shared) -> Reply {
    let value = state
        .work(|context| Ok(info::value(context, context.settings())?))
        .await?;
    Ok(json(&value))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Login {
    username: Option<String>,
    password: Option<String>,
    serveraddress: Option<String>,
}

/// `POST /auth`: whether a registry knows the user; keeping the password is the client's part.
pub async fn auth(state: Shared, mut call: Call) -> Reply {
    let asked: Login = call.json().await?;
    let (user, password) = (asked.username, asked.password);
    let user = user.filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| ApiError::bad("no user name given"))?;
    state
        .slow_work(move |context| {
            let registry = image::registry_named(asked.serveraddress.as_deref());
            let password = password.unwrap_or_default();
            let known = image::check_login(context.settings(), registry, &user, &password);
            known.map_err(|error| ApiError::new(StatusCode::UNAUTHORIZED, error.to_string()))
        })
        .await?;
    Ok(json(
        &json!({"Status": "Login Succeeded", "IdentityToken": ""}),
    ))
}

/// `GET /events`.
pub async fn events(state: Shared, call: Call) -> Reply {
    let filters = filters::parse(call.query.get("filters"))?;
    let filter = Filter::parse(&filters).map_err(|error| ApiError::bad(error.to_string()))?;
    let time = |name| call.query.get(name).map(parse_time).transpose();
    let (since, until) = (time("since")?, time("until")?.filter(|until| *until != 0));
    // Subscribed before the journal is read, so that nothing falls between.
    let ears = state.bus.subscribe();
    let (sender, body) = Body::stream();
    let follower = Follower {
        state,
        sender: sender.clone(),
        filter,
        last: 0,
        since: since.unwrap_or_else(now_ns),
        until,
    };
    tokio::spawn(async move {
        tokio::select! {
            // Only a client that has gone, or a store that has, makes it fail.
            _ = follower.run(ears) => {}
            () = sender.closed() => {}
        }
    });
    Ok(answer(StatusCode::OK, "application/json", body))
}

/// One client that follows the events.
struct Follower {
    state: Shared,
    sender: Sender,
    filter: Filter,
    /// The last event that was considered.
    last: i64,
    since: i64,
    until: Option<i64>,
}

impl Follower {
    async fn run(mut self, mut ears: Receiver<Arc<Event>>) -> Result<(), ApiError> {
        self.catch_up().await?;
        loop {
            let left = self
                .until
                .map(|until| until.saturating_sub(now_ns()).max(0));
            let time_is_up = async {
                match left {
                    Some(left) => {
                        let left = std::time::Duration::from_nanos(left.unsigned_abs());
                        tokio::time::sleep(left).await;
                    }
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = ears.recv() => event,
                () = time_is_up => return self.catch_up().await,
            };
            match event {
                Ok(event) => self.take(&event).await?,
                // Too slow for the bus: the journal has them still.
                Err(RecvError::Lagged(_)) => self.catch_up().await?,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), ApiError> {
        let (last, since, until) = (self.last, self.since, self.until);
        let events = self
            .state
            .work(move |context| Ok(context.events(last, since, until)?))
            .await?;
        for event in events {
            self.take(&event).await?;
        }
        Ok(())
    }

    async fn take(&mut self, event: &Event) -> Result<(), ApiError> {
        if event.id <= self.last || event.time < self.since {
            return Ok(());
        }
        self.last = event.id;
        if self.until.is_some_and(|until| event.time > until) || !self.filter.matches(event) {
            return Ok(());
        }
        let sent = self.sender.send_json(&event.value()).await;
        sent.map_err(|Gone| ApiError::bad("the client has gone"))
    }
}
