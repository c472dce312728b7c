//! `cp`: files of a container as archives, out and in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guest_agent::protocol::PathStat;
use hyper::{Response, StatusCode};
use serde_json::json;
use tokio::sync::oneshot;

use crate::container::copy::{self, Options, Source};
use crate::container::lifecycle;
use crate::events::Note;
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::reply::{Reply, answer, with_header, with_status};
use crate::serve::request::{Call, Query};
use crate::serve::state::{Context, Shared};
use crate::time::rfc3339;

const STAT: &str = "x-docker-container-path-stat";

fn path(query: &Query) -> Result<String, ApiError> {
    let path = query.get("path").map(str::to_owned);
    path.ok_or_else(|| ApiError::bad("bad parameter: path cannot be empty"))
}

/// `HEAD /containers/ID/archive`.
pub async fn head(state: Shared, call: Call, name: String) -> Reply {
    let path = path(&call.query)?;
    let found = state
        .slow_work(move |context| {
            let container = lifecycle::find(context, &name)?;
            let source = Source::open(context, &container, &path, Options::default())?;
            Ok(source.stat().clone())
        })
        .await?;
    Ok(with_stat(with_status(StatusCode::OK), &found))
}

/// `GET /containers/ID/archive`.
pub async fn get(state: Shared, call: Call, name: String) -> Reply {
    let path = path(&call.query)?;
    let context = state.for_slow_work().await?;
    let (sender, body) = Body::stream();
    let (tell, told) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let mut tell = Some(tell);
        let mut out = sender.writer();
        let mut copy = |context: &Context| {
            let container = lifecycle::find(context, &name)?;
            let source = Source::open(context, &container, &path, Options::default())?;
            let note = Note::new("archive-path").with("path", &path);
            context.note_container(&container.id, &[note])?;
            if let Some(tell) = tell.take() {
                // A client that left is noticed when the archive is sent.
                let _ = tell.send(Ok(source.stat().clone()));
            }
            source.write_to(&mut out)?;
            Ok::<(), ApiError>(std::io::Write::flush(&mut out)?)
        };
        if let Err(error) = copy(&context) {
            match tell {
                Some(tell) => drop(tell.send(Err(error))),
                None => out
                    .sender()
                    .blocking_abort(std::io::Error::other(error.message)),
            }
        }
    });
    let found = told.await.map_err(ApiError::broken)??;
    let response = answer(StatusCode::OK, "application/x-tar", body);
    Ok(with_stat(response, &found))
}

/// `PUT /containers/ID/archive`.
pub async fn put(state: Shared, call: Call, name: String) -> Reply {
    let path = path(&call.query)?;
    let context = state.for_slow_work().await?;
    let mut reader = call.reader();
    let copied = tokio::task::spawn_blocking(move || {
        let container = lifecycle::find(&context, &name)?;
        let note = Note::new("extract-to-dir").with("path", &path);
        context.note_container(&container.id, &[note])?;
        // Docker's API keeps the archive's owners, whatever its command line then says.
        let options = Options {
            archive: true,
            follow_link: false,
        };
        copy::from_archive(&context, &container, &mut reader, &path, options)?;
        Ok::<(), ApiError>(())
    });
    copied.await.map_err(ApiError::broken)??;
    Ok(with_status(StatusCode::OK))
}

fn with_stat(response: Response<Body>, found: &PathStat) -> Response<Body> {
    let value = json!({
        "name": found.name,
        "size": found.size,
        "mode": go_mode(found.mode),
        "mtime": rfc3339(found.mtime.saturating_mul(1_000_000_000)),
        "linkTarget": found.link_target,
    });
    with_header(response, STAT, &STANDARD.encode(value.to_string()))
}

/// Go's `FileMode`, whose bits for types are not the system's.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        0o020_000 => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let special = [(0o4000, 23), (0o2000, 22), (0o1000, 20)];
    let special = special.iter().filter(|(bit, _)| mode & bit != 0);
    special.fold(kind | mode & 0o777, |all, (_, bit)| all | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100_644), 0o644);
        assert_eq!(go_mode(0o041_777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(go_mode(0o120_777), 1 << 27 | 0o777);
        assert_eq!(go_mode(0o104_755), 1 << 23 | 0o755);
        assert_eq!(go_mode(0o020_620), 1 << 26 | 1 << 21 | 0o620);
    }
}
