//! `attach`, and the streams of containers.

use std::os::unix::net::UnixStream as StdStream;

use guest_agent::protocol::MAIN_PROCESS;
use tokio::net::UnixStream;

use super::pending::Place;
use crate::container::control::Attach;
use crate::container::log_view::{View, Wanted};
use crate::container::logs::Stream;
use crate::container::{Container, client, detach, lifecycle};
use crate::events::Note;
use crate::serve::error::ApiError;
use crate::serve::hijack::{self, Terms};
use crate::serve::relay::{self, Feed};
use crate::serve::reply::{Reply, answer};
use crate::serve::request::{Call, Query};
use crate::serve::state::Shared;

/// The most of an earlier log that `attach` with `logs` begins with.
const MAX_EARLIER: usize = 4 << 20;

/// The process that `attach` is about.
pub const MAIN: &str = MAIN_PROCESS;

/// `POST /containers/ID/attach`.
pub async fn attach(state: Shared, call: Call, name: String) -> Reply {
    let terms = terms(&call.query)?;
    attach_on(state, call, name, terms).await
}

/// `GET /containers/ID/attach/ws`.
pub async fn attach_socket(state: Shared, call: Call, name: String) -> Reply {
    let terms = Terms {
        socket: true,
        ..terms(&call.query)?
    };
    attach_on(state, call, name, terms).await
}

async fn attach_on(state: Shared, call: Call, name: String, terms: Terms) -> Reply {
    let (stream, logs) = (call.query.flag("stream"), call.query.flag("logs"));
    let container = state
        .work(move |context| Ok(lifecycle::find(context, &name)?))
        .await?;
    let terms = Terms {
        tty: container.config.tty,
        stdin: terms.stdin && container.config.open_stdin && stream,
        ..terms
    };
    let earlier = match logs {
        true => earlier(&state, &container).await?,
        false => Vec::new(),
    };
    if !stream && terms.socket {
        return hijack::attach(call, terms, earlier, async { None });
    }
    if !stream {
        let kind = hijack::content_type(terms.tty, call.version);
        let shown = earlier.iter().map(|(stream, bytes)| match terms.tty {
            true => bytes.clone(),
            false => hijack::framed(*stream, bytes),
        });
        let text = shown.collect::<Vec<_>>().concat();
        let body = crate::serve::body::Body::Whole(text.into());
        return Ok(answer(hyper::StatusCode::OK, kind, body));
    }
    let stdin = terms.stdin;
    let place = Place::take(&state, &container, stdin);
    // Looked at again, now that its start cannot be missed.
    let id = container.id.clone();
    let now = state
        .work(move |context| Ok(lifecycle::find(context, &id)?))
        .await?;
    if !now.state.status.is_live() {
        return hijack::attach(call, terms, earlier, place.feed());
    }
    drop(place);
    let asked = Attach {
        stdin,
        output: true,
        ..Attach::default()
    };
    let feed = join(&state, &now, asked).await?;
    state
        .work(move |context| Ok(context.note_container(&now.id, &[Note::new("attach")])?))
        .await?;
    hijack::attach(call, terms, earlier, async { Some(feed) })
}

/// Which streams a client wants.
pub fn terms(query: &Query) -> Result<Terms, ApiError> {
    let keys = query.get("detachKeys").unwrap_or(detach::DETACH_KEYS);
    let keys = detach::parse_detach_keys(keys).map_err(|error| ApiError::bad(error.to_string()))?;
    Ok(Terms {
        tty: false,
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        keys,
        socket: false,
    })
}

/// Attaches to a running container.
pub async fn join(state: &Shared, container: &Container, asked: Attach) -> Result<Feed, ApiError> {
    let container = container.clone();
    let stream = state
        .work(move |context| Ok(client::attach(context, &container, asked)?))
        .await?;
    let feed = relay::start(in_tokio(stream)?, 1, None).pop();
    feed.ok_or_else(|| ApiError::broken(anyhow::anyhow!("attaching to nobody")))
}

/// A connection of the library's, for tasks that do not block.
pub fn in_tokio(stream: StdStream) -> std::io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

async fn earlier(
    state: &Shared,
    container: &Container,
) -> Result<Vec<(Stream, Vec<u8>)>, ApiError> {
    let id = container.id.clone();
    let read = move |context: &crate::serve::state::Context| {
        let mut view = View::new(&context.paths().container_log(&id), Wanted::default())?;
        let (mut pieces, mut size) = (Vec::new(), 0);
        while let Some((stream, bytes)) = view.next_piece()? {
            size += bytes.len();
            if size > MAX_EARLIER {
                break;
            }
            pieces.push((stream, bytes));
        }
        Ok(pieces)
    };
    state.work(read).await
}
