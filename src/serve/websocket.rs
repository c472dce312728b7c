//! A process's streams over a WebSocket: what it writes comes as binary messages without docker's
//! headers, and what a client sends, binary or text, is its standard input.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::body::Bytes;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::body::Body;
use super::error::ApiError;
use super::reply::Reply;

/// What RFC 6455 appends to a client's key.
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The largest message of a client.
const MAX_MESSAGE: usize = 1 << 20;
/// What may wait to be written, beyond the message that is being sent.
const MAX_WAITING: usize = 2 << 20;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Where output goes.
pub struct Sink(SplitSink<Socket, Message>);

/// Where input comes from.
pub struct Source(SplitStream<Socket>);

/// The answer that makes a connection a WebSocket.
pub fn accept(headers: &HeaderMap) -> Reply {
    let text = |name: &HeaderName| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().trim()
    };
    if !text(&UPGRADE).eq_ignore_ascii_case("websocket") {
        return Err(ApiError::bad(
            "attaching by websocket needs a request with Upgrade: websocket",
        ));
    }
    let key = text(&SEC_WEBSOCKET_KEY);
    if text(&SEC_WEBSOCKET_VERSION) != "13" || key.is_empty() {
        return Err(ApiError::bad(
            "only version 13 of the WebSocket protocol is spoken, with a Sec-WebSocket-Key",
        ));
    }
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(SUFFIX)
        .finalize();
    let accepted = HeaderValue::from_str(&STANDARD.encode(digest)).map_err(ApiError::broken)?;
    let mut response = Response::new(Body::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    Ok(response)
}

/// The two directions of a connection that has become a WebSocket.
pub async fn open(upgraded: Upgraded) -> (Sink, Source) {
    let bounds = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .max_write_buffer_size(MAX_WAITING);
    let socket = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(bounds)).await;
    let (sink, source) = socket.split();
    (Sink(sink), Source(source))
}

impl Sink {
    /// Sends a piece once the client has taken what was before.
    pub async fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let sent = self.0.send(Message::Binary(bytes.into())).await;
        sent.map_err(io::Error::other)
    }

    /// Says that there is no more.
    pub async fn close(&mut self) {
        // A client that has gone needs no end.
        let _ = self.0.close().await;
    }
}

impl Source {
    /// The next bytes; none at the end.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.0.next().await {
                None | Some(Err(Error::ConnectionClosed)) => return Ok(None),
                Some(Ok(Message::Close(_))) => return Ok(None),
                Some(Ok(Message::Binary(bytes))) => return Ok(Some(bytes)),
                Some(Ok(Message::Text(text))) => return Ok(Some(text.into())),
                // Pings are answered by the library.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(io::Error::other(error)),
            }
        }
    }
}
