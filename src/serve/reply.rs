//! Answers: JSON, nothing, a stream, an error.

use std::io;

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::{Body, Sender, Writer};
use super::error::ApiError;

/// What a handler gives.
pub type Reply = Result<Response<Body>, ApiError>;

/// An answer with a type and a body.
pub fn answer(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// JSON.
pub fn json(value: &Value) -> Response<Body> {
    json_as(StatusCode::OK, value)
}

/// JSON with a status.
pub fn json_as(status: StatusCode, value: &Value) -> Response<Body> {
    let mut text = value.to_string();
    text.push('\n');
    answer(status, "application/json", Body::Whole(text.into()))
}

/// Done, and nothing to say.
pub fn empty() -> Response<Body> {
    with_status(StatusCode::NO_CONTENT)
}

/// A status alone.
pub fn with_status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// Docker's form of an error.
pub fn error(error: &ApiError) -> Response<Body> {
    json_as(error.status, &json!({"message": error.message}))
}

/// Adds a header; a value that none can have is left out.
pub fn with_header(
    mut response: Response<Body>,
    name: &'static str,
    value: &str,
) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(value) {
        let name = HeaderName::from_static(name);
        response.headers_mut().insert(name, value);
    }
    response
}

/// A body that blocking code writes; an error ends the connection in the middle.
pub fn written<F>(kind: &'static str, write: F) -> Response<Body>
where
    F: FnOnce(&mut Writer) -> Result<(), ApiError> + Send + 'static,
{
    let (sender, body) = Body::stream();
    tokio::task::spawn_blocking(move || finish(sender, write));
    answer(StatusCode::OK, kind, body)
}

fn finish(sender: Sender, write: impl FnOnce(&mut Writer) -> Result<(), ApiError>) {
    let mut writer = sender.writer();
    let done =
        write(&mut writer).and_then(|()| io::Write::flush(&mut writer).map_err(ApiError::from));
    if let Err(error) = done {
        writer
            .sender()
            .blocking_abort(io::Error::other(error.message));
    }
}
