//! Bodies of answers: whole ones, and those that come bit by bit while the client reads.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use serde_json::Value;
use tokio::sync::mpsc;

/// Pieces that wait for a slow client; the next one holds up whoever makes them.
const QUEUE: usize = 4;
/// Bytes that a blocking writer collects before it sends them.
const PIECE: usize = 64 << 10;

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// There is nothing more to send.
    Whole(Bytes),
    /// What comes over a channel.
    Stream(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body {
    /// A body that is sent as it is made.
    pub fn stream() -> (Sender, Self) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Sender(sender), Self::Stream(receiver))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(receiver) => receiver
                .poll_recv(context)
                .map(|next| next.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// The client has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Makes a body bit by bit.
#[derive(Debug, Clone)]
pub struct Sender(mpsc::Sender<io::Result<Bytes>>);

impl Sender {
    /// Sends a piece once the client has taken enough of what was before.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.send(Ok(bytes.into())).await.map_err(|_| Gone)
    }

    /// Sends a JSON value and a line break.
    pub async fn send_json(&self, value: &Value) -> Result<(), Gone> {
        self.send(line(value)).await
    }

    /// As [`Sender::send_json`], from a thread that may wait.
    pub fn blocking_json(&self, value: &Value) -> Result<(), Gone> {
        let sent = self.0.blocking_send(Ok(line(value).into()));
        sent.map_err(|_| Gone)
    }

    /// Sends a line if there is room for it.
    pub fn try_json(&self, value: &Value) {
        // What is left out is left out.
        let _ = self.0.try_send(Ok(line(value).into()));
    }

    /// Ends the connection in the middle of the body, which is how a client learns that it is
    /// not whole.
    pub fn blocking_abort(&self, error: io::Error) {
        // A client that has gone needs no end.
        let _ = self.0.blocking_send(Err(error));
    }

    /// Returns when the client has gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    /// For code that writes, in a thread that may wait.
    pub fn writer(self) -> Writer {
        Writer {
            sender: self,
            piece: Vec::new(),
        }
    }
}

fn line(value: &Value) -> Vec<u8> {
    let mut text = value.to_string().into_bytes();
    text.extend(b"\r\n");
    text
}

/// A body as a file that is written to.
#[derive(Debug)]
pub struct Writer {
    sender: Sender,
    piece: Vec<u8>,
}

impl Writer {
    /// Where it goes to.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE);
        self.piece.extend(&bytes[..taken]);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        let sent = self.sender.0.blocking_send(Ok(piece.into()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
