//! Connections that become a process's streams: `101 UPGRADED`, raw with a terminal and in
//! frames without, and the same as a plain body for clients that do not ask for the connection,
//! or as the messages of a WebSocket.

use std::future::Future;
use std::io;

use guest_agent::protocol::FrameKind;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Bytes, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

use super::body::{Body, Sender};
use super::relay::{Feed, Input};
use super::reply::{Reply, answer};
use super::request::Call;
use super::watch::Peer;
use super::websocket;
use crate::container::detach::DetachWatch;
use crate::container::logs::Stream;

/// Bytes of standard input that are read at once.
const CHUNK: usize = 32 << 10;
/// Docker's types of the two forms.
const RAW: &str = "application/vnd.docker.raw-stream";
const FRAMES: &str = "application/vnd.docker.multiplexed-stream";

/// What a client wants of a process's streams.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// The process has a terminal: bytes as they are, and keys that detach.
    pub tty: bool,
    /// The client sends standard input.
    pub stdin: bool,
    /// The client wants standard output.
    pub stdout: bool,
    /// The client wants standard error.
    pub stderr: bool,
    /// The keys that detach.
    pub keys: Vec<u8>,
    /// Over a WebSocket: bytes as they are, in its own messages.
    pub socket: bool,
}

/// The type of a stream of output for clients of this version.
pub fn content_type(tty: bool, version: (u32, u32)) -> &'static str {
    match tty || version < (1, 42) {
        true => RAW,
        false => FRAMES,
    }
}

/// A piece of output with docker's header.
pub fn framed(stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(8 + bytes.len());
    whole.extend([stream as u8, 0, 0, 0]);
    whole.extend((bytes.len() as u32).to_be_bytes());
    whole.extend(bytes);
    whole
}

/// Answers with the streams that `feed` gives; before them comes what is in `earlier`.
pub fn attach(
    call: Call,
    terms: Terms,
    earlier: Vec<(Stream, Vec<u8>)>,
    feed: impl Future<Output = Option<Feed>> + Send + 'static,
) -> Reply {
    if terms.socket {
        return attach_socket(call, terms, earlier, feed);
    }
    let kind = content_type(terms.tty, call.version);
    let peer = call.peer;
    let Some(upgrade) = call.upgrade else {
        let (sender, body) = Body::stream();
        let client = Client {
            sink: Sink::Body(sender),
            source: Source::Body(call.body.into_stream()),
        };
        tokio::spawn(converse(client, peer, terms, earlier, feed));
        return Ok(answer(StatusCode::OK, kind, body));
    };
    tokio::spawn(async move {
        // A client that left meanwhile has nothing to be told.
        let Ok(upgraded) = upgrade.await else { return };
        let (reader, writer) = split(TokioIo::new(upgraded));
        let client = Client {
            sink: Sink::Connection(writer),
            source: Source::Connection(reader),
        };
        converse(client, peer, terms, earlier, feed).await;
    });
    let mut response = answer(
        StatusCode::SWITCHING_PROTOCOLS,
        kind,
        Body::Whole(Bytes::new()),
    );
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    let reason = ReasonPhrase::from_static(b"UPGRADED");
    response.extensions_mut().insert(reason);
    Ok(response)
}

fn attach_socket(
    call: Call,
    terms: Terms,
    earlier: Vec<(Stream, Vec<u8>)>,
    feed: impl Future<Output = Option<Feed>> + Send + 'static,
) -> Reply {
    let response = websocket::accept(&call.headers)?;
    let peer = call.peer;
    if let Some(upgrade) = call.upgrade {
        tokio::spawn(async move {
            // A client that left meanwhile has nothing to be told.
            let Ok(upgraded) = upgrade.await else { return };
            let (sink, source) = websocket::open(upgraded).await;
            let client = Client {
                sink: Sink::Socket(sink),
                source: Source::Socket(source),
            };
            converse(client, peer, terms, earlier, feed).await;
        });
    }
    Ok(response)
}

struct Client {
    sink: Sink,
    source: Source,
}

enum Sink {
    Connection(WriteHalf<TokioIo<Upgraded>>),
    Body(Sender),
    Socket(websocket::Sink),
}

enum Source {
    Connection(ReadHalf<TokioIo<Upgraded>>),
    Body(Option<Incoming>),
    Socket(websocket::Source),
}

impl Sink {
    async fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Connection(writer) => {
                writer.write_all(&bytes).await?;
                writer.flush().await
            }
            Self::Body(sender) => sender
                .send(bytes)
                .await
                .map_err(|_| io::ErrorKind::BrokenPipe.into()),
            Self::Socket(socket) => socket.send(bytes).await,
        }
    }

    async fn close(&mut self) {
        match self {
            Self::Connection(writer) => {
                // A client that has gone needs no end.
                let _ = writer.shutdown().await;
            }
            Self::Body(_) => {}
            Self::Socket(socket) => socket.close().await,
        }
    }
}

impl Source {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Connection(reader) => {
                let mut buffer = vec![0; CHUNK];
                let count = reader.read(&mut buffer).await?;
                buffer.truncate(count);
                Ok((count > 0).then(|| buffer.into()))
            }
            Self::Body(body) => loop {
                let Some(body) = body else { return Ok(None) };
                match body.frame().await {
                    None => return Ok(None),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
                        _ => {}
                    },
                    Some(Err(error)) => return Err(io::Error::other(error)),
                }
            },
            Self::Socket(socket) => socket.next().await,
        }
    }
}

async fn converse(
    client: Client,
    peer: Peer,
    terms: Terms,
    earlier: Vec<(Stream, Vec<u8>)>,
    feed: impl Future<Output = Option<Feed>>,
) {
    let Client { mut sink, source } = client;
    let talk = async {
        for (stream, bytes) in earlier {
            sink.send(shape(&terms, stream, &bytes)).await?;
        }
        if let Some(Feed { mut output, input }) = feed.await {
            let listening = listen(source, &terms, input);
            let telling = async {
                while let Some(frame) = output.recv().await {
                    let stream = match frame.kind {
                        FrameKind::Stdout if terms.stdout => Stream::Stdout,
                        FrameKind::Stderr if terms.stderr => Stream::Stderr,
                        FrameKind::Exit => break,
                        _ => continue,
                    };
                    sink.send(shape(&terms, stream, &frame.payload)).await?;
                }
                io::Result::Ok(())
            };
            tokio::select! {
                told = telling => told?,
                () = listening => {}
            }
        }
        io::Result::Ok(())
    };
    tokio::select! {
        // Only a client that has gone makes it fail.
        _ = talk => {}
        () = peer.gone() => return,
    }
    sink.close().await;
}

fn shape(terms: &Terms, stream: Stream, bytes: &[u8]) -> Vec<u8> {
    match terms.tty || terms.socket {
        true => bytes.to_vec(),
        false => framed(stream, bytes),
    }
}

/// Carries standard input; returns when the client wants to detach or broke off.
async fn listen(mut source: Source, terms: &Terms, input: tokio::sync::mpsc::Sender<Input>) {
    if terms.stdin {
        let keys = if terms.tty {
            terms.keys.clone()
        } else {
            Vec::new()
        };
        let mut watch = DetachWatch::new(keys);
        loop {
            match source.next().await {
                Ok(Some(bytes)) => {
                    let (typed, detach) = watch.filter(&bytes);
                    // A process that has ended says so on the other side.
                    let _ = input.send(Input::Data(typed)).await;
                    if detach {
                        return;
                    }
                }
                // As docker: a terminal has no end of input, and a client that sends no more
                // has left.
                Ok(None) if terms.tty => return,
                Ok(None) => break,
                Err(_) => return,
            }
        }
        let _ = input.send(Input::Close).await;
    }
    // What it sends no more says nothing about what it still reads.
    std::future::pending().await
}
