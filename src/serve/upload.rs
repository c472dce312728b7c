//! Bodies of requests, which are read to their end even when nobody wants them any more.
//!
//! Purpose: a client that is refused in the middle of what it sends sees its connection break,
//! and never reads why, unless somebody takes the rest.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// How long a client may let an archive wait in the middle.
const PIECE_PATIENCE: Duration = Duration::from_secs(600);
/// How long a client may go on sending what nobody wants.
const REST_PATIENCE: Duration = Duration::from_secs(60);
/// Pieces of a body that wait for the code that reads them.
const QUEUE: usize = 4;

/// The body of a request. What is left of it when it is dropped is read and forgotten.
#[derive(Debug)]
pub struct Upload(Option<Incoming>);

impl From<Incoming> for Upload {
    fn from(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Upload {
    /// For code that reads, in a thread that may wait.
    pub fn reader(self) -> BodyReader {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(pump(self, sender));
        BodyReader {
            receiver,
            rest: Bytes::new(),
        }
    }

    /// Without the promise of reading it to its end: a stream that only its sender ends.
    pub fn into_stream(mut self) -> Option<Incoming> {
        self.0.take()
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().0 {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut body) = self.0.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        // Without a runtime there is no connection any more either.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(REST_PATIENCE, async move {
                while let Some(Ok(_)) = body.frame().await {}
            }));
        }
    }
}

async fn pump(mut body: Upload, sender: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(PIECE_PATIENCE, body.frame()) => next,
            () = sender.closed() => return,
        };
        let piece = match next {
            Ok(None) => return,
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) => Ok(bytes),
                Err(_) => continue,
            },
            Ok(Some(Err(error))) => Err(io::Error::other(error)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let failed = piece.is_err();
        if sender.send(piece).await.is_err() || failed {
            return;
        }
    }
}

/// A request's body as a file that is read.
#[derive(Debug)]
pub struct BodyReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.rest = piece?,
            }
        }
        let taken = self.rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.rest.split_to(taken));
        Ok(taken)
    }
}
