//! `logs`, followed without a thread per client.

use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::attach::in_tokio;
use crate::container::control::ControlRequest;
use crate::container::log_view::{self, View, Wanted};
use crate::container::logs::Stream;
use crate::container::record::now_ns;
use crate::container::{Container, client, lifecycle};
use crate::serve::body::{Body, Sender};
use crate::serve::error::ApiError;
use crate::serve::hijack::{content_type, framed};
use crate::serve::reply::{Reply, answer};
use crate::serve::request::{Call, Query};
use crate::serve::state::{Context, Shared};
use crate::time::parse_time;

/// Bytes that are read of a log at once.
const BATCH: usize = 256 << 10;

/// `GET /containers/ID/logs`.
pub async fn logs(state: Shared, call: Call, name: String) -> Reply {
    let query = &call.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        let message = "Bad parameters: you must choose at least one stream";
        return Err(ApiError::bad(message));
    }
    let wanted = Wanted {
        tail: log_view::parse_tail(query.get("tail").unwrap_or("all"))?,
        since: time(query, "since")?,
        until: time(query, "until")?,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
    };
    let until = wanted.until;
    let follow = query.flag("follow");
    let watcher = state.clone();
    let begin = move |context: &Context| {
        let container = lifecycle::find(context, &name)?;
        if container.config.no_log {
            return Err(ApiError::new(
                StatusCode::NOT_IMPLEMENTED,
                "configured logging driver does not support reading",
            ));
        }
        // Watched before the first read, so that nothing falls between.
        let follow = match follow && container.state.status.is_live() {
            true => follow_up(&watcher, context, &container)?,
            false => None,
        };
        let path = context.paths().container_log(&container.id);
        Ok((View::new(&path, wanted)?, container, follow))
    };
    let (view, container, follow) = state.work(begin).await?;
    let (sender, body) = Body::stream();
    let tty = container.config.tty;
    let shown = Shown {
        sender,
        tty,
        stdout,
        stderr,
    };
    let follow = match follow {
        Some((changes, alive)) => Some((changes, in_tokio(alive)?)),
        None => None,
    };
    tokio::spawn(async move {
        let gone = shown.sender.clone();
        tokio::select! {
            // Only a client that has gone, or a log that has, makes it fail.
            _ = show(state, container, view, shown, follow, until) => {}
            () = gone.closed() => {}
        }
    });
    Ok(answer(
        StatusCode::OK,
        content_type(tty, call.version),
        body,
    ))
}

fn time(query: &Query, name: &str) -> Result<Option<i64>, ApiError> {
    let given = query.get(name).filter(|text| *text != "0");
    Ok(given.map(parse_time).transpose()?)
}

type FollowUp = (watch::Receiver<u64>, StdStream);

fn follow_up(
    state: &Shared,
    context: &Context,
    container: &Container,
) -> Result<Option<FollowUp>, ApiError> {
    let directory = context.paths().container_dir(&container.id);
    let changes = state.watcher.watch(&directory)?;
    let alive = client::ask(context, container, &ControlRequest::Wait);
    // One that ends at this moment is not followed.
    Ok(alive.ok().map(|alive| (changes, alive)))
}

struct Shown {
    sender: Sender,
    tty: bool,
    stdout: bool,
    stderr: bool,
}

impl Shown {
    async fn send(&self, (stream, bytes): (Stream, Vec<u8>)) -> Result<(), ApiError> {
        let wanted = match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        if !wanted {
            return Ok(());
        }
        let bytes = match self.tty {
            true => bytes,
            false => framed(stream, &bytes),
        };
        let gone = |_| ApiError::bad("the client has gone");
        self.sender.send(bytes).await.map_err(gone)
    }
}

async fn show(
    state: Shared,
    container: Container,
    mut view: View,
    shown: Shown,
    mut follow: Option<(watch::Receiver<u64>, UnixStream)>,
    until: Option<i64>,
) -> Result<(), ApiError> {
    let mut last = follow.is_none();
    loop {
        let (next, pieces) = state.work(move |_| batch(view)).await?;
        view = next;
        let done = pieces.is_empty();
        for piece in pieces {
            shown.send(piece).await?;
        }
        if !done {
            continue;
        }
        let Some((changes, alive)) = &mut follow else {
            return Ok(());
        };
        if last {
            return Ok(());
        }
        if ended(changes, alive, until).await {
            // What it wrote at its end is there by now. Its restart policy may start it again.
            match again(&state, &container).await? {
                Some(stream) if until.is_none_or(|until| until > now_ns()) => *alive = stream,
                _ => last = true,
            }
        }
    }
}

type Piece = (Stream, Vec<u8>);

fn batch(mut view: View) -> Result<(View, Vec<Piece>), ApiError> {
    let (mut pieces, mut size) = (Vec::new(), 0);
    while size < BATCH {
        let Some(piece) = view.next_piece()? else {
            break;
        };
        size += piece.1.len();
        pieces.push(piece);
    }
    Ok((view, pieces))
}

/// Waits until there may be more; true when the run or the time is over.
async fn ended(
    changes: &mut watch::Receiver<u64>,
    alive: &mut UnixStream,
    until: Option<i64>,
) -> bool {
    let left = until.map(|until| until.saturating_sub(now_ns()).max(0).unsigned_abs());
    let time_is_up = async {
        match left {
            Some(left) => tokio::time::sleep(Duration::from_nanos(left)).await,
            None => std::future::pending().await,
        }
    };
    let mut byte = [0];
    tokio::select! {
        changed = changes.changed() => changed.is_err(),
        _ = alive.read(&mut byte) => true,
        () = time_is_up => true,
    }
}

/// Whether it runs again: what its next end is heard from.
async fn again(state: &Shared, container: &Container) -> Result<Option<UnixStream>, ApiError> {
    let id = container.id.clone();
    let stream = state
        .work(move |context| {
            let now = lifecycle::find(context, &id).ok();
            let live = now.filter(|now| now.state.status.is_live());
            Ok(live.and_then(|now| client::ask(context, &now, &ControlRequest::Wait).ok()))
        })
        .await?;
    Ok(stream.map(in_tokio).transpose()?)
}
