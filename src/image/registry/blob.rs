//! Fetching layers: a stream of bytes that survives broken connections.

use std::io::{self, Read};

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::RANGE;
use tokio::sync::mpsc;

use super::RegistryError;
use super::patience::{ATTEMPTS, pause};
use super::session::Session;
use crate::image::manifest::Blob;

/// Pieces that may wait for their reader; a piece is at most a few hundred kilobytes.
const CHANNEL: usize = 16;

/// What the fetching side tells the reading one.
enum Event {
    Data(Bytes),
    Retrying,
    Failed(RegistryError),
}

/// A blob as it arrives, to be read by a thread that may block.
pub struct Source {
    events: mpsc::Receiver<Event>,
    current: Bytes,
    failure: Option<RegistryError>,
    retried: bool,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Begins fetching `blob`.
    pub fn fetch(
        runtime: &tokio::runtime::Handle,
        session: std::sync::Arc<Session>,
        blob: Blob,
    ) -> Self {
        let (sender, events) = mpsc::channel(CHANNEL);
        runtime.spawn(async move {
            if let Err(error) = run(&session, &blob, &sender).await {
                // The reader may be gone, and then nobody needs to know.
                let _ = sender.send(Event::Failed(error)).await;
            }
        });
        Self {
            events,
            current: Bytes::new(),
            failure: None,
            retried: false,
        }
    }

    /// Why reading ended with an error, when the registry is to blame.
    pub fn take_failure(&mut self) -> Option<RegistryError> {
        self.failure.take()
    }

    /// Whether, since this was last asked, the connection broke and a new one went on where it
    /// ended.
    pub fn take_retry(&mut self) -> bool {
        std::mem::take(&mut self.retried)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.events.blocking_recv() {
                None => return Ok(0),
                Some(Event::Data(data)) => self.current = data,
                Some(Event::Retrying) => self.retried = true,
                Some(Event::Failed(error)) => {
                    let text = error.to_string();
                    self.failure = Some(error);
                    return Err(io::Error::other(text));
                }
            }
        }
        let count = self.current.len().min(buffer.len());
        let (now, _) = self.current.split_at(count);
        buffer[..count].copy_from_slice(now);
        let _ = self.current.split_to(count);
        Ok(count)
    }
}

/// Sends the blob piece by piece. Attempts are counted from the last byte that arrived, so a
/// large layer over a bad line gets there as long as it makes progress.
async fn run(
    session: &Session,
    blob: &Blob,
    sender: &mpsc::Sender<Event>,
) -> Result<(), RegistryError> {
    let mut sent = 0;
    let mut attempt = 1;
    loop {
        let before = sent;
        match stretch(session, blob, &mut sent, sender).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                attempt = if sent > before { 1 } else { attempt + 1 };
                if attempt > ATTEMPTS || !error.is_transient() {
                    return Err(error);
                }
            }
        }
        if sender.send(Event::Retrying).await.is_err() {
            return Ok(());
        }
        tokio::time::sleep(pause(attempt)).await;
    }
}

/// One request's worth: from `sent` to the end, or to where the connection breaks.
async fn stretch(
    session: &Session,
    blob: &Blob,
    sent: &mut u64,
    sender: &mpsc::Sender<Event>,
) -> Result<(), RegistryError> {
    let url = session.url(&format!("blobs/{}", blob.digest));
    let what = format!("layer {}", blob.digest.short());
    let offset = *sent;
    let mut response = session
        .send(&what, || {
            let request = session.http().get(&url);
            if offset > 0 {
                request.header(RANGE, format!("bytes={offset}-"))
            } else {
                request
            }
        })
        .await?;
    // Bytes that we have already, when the server begins anew instead of where we asked.
    let mut skip = match response.status() {
        StatusCode::OK => offset,
        StatusCode::PARTIAL_CONTENT if starts_at(&response, offset) => 0,
        StatusCode::NOT_FOUND => return Err(session.blob_unknown(&blob.digest)),
        StatusCode::PARTIAL_CONTENT => {
            return Err(session.protocol(format!("sent another part of {what} than asked for")));
        }
        _ => return Err(session.failure(response, &what).await),
    };
    loop {
        let mut data = match response.chunk().await {
            Ok(Some(data)) => data,
            Ok(None) if *sent < blob.size => {
                return Err(RegistryError::Unreachable {
                    endpoint: session.base().to_owned(),
                    reason: format!("{what} ended after {sent} of {} bytes", blob.size),
                });
            }
            Ok(None) => return Ok(()),
            Err(error) => return Err(session.unreachable(&error)),
        };
        let known = skip.min(data.len() as u64);
        skip -= known;
        let _ = data.split_to(usize::try_from(known).unwrap_or(data.len()));
        *sent += data.len() as u64;
        if *sent > blob.size {
            return Err(session.protocol(format!(
                "sends more for {what} than the {} bytes that its manifest names",
                blob.size
            )));
        }
        if !data.is_empty() && sender.send(Event::Data(data)).await.is_err() {
            return Ok(());
        }
    }
}

/// Whether a partial answer begins where it should; without the header we must believe it, and
/// the digest tells in the end.
fn starts_at(response: &reqwest::Response, offset: u64) -> bool {
    let Some(range) = response.headers().get("content-range") else {
        return true;
    };
    let start = range.to_str().ok().and_then(|text| {
        text.trim()
            .strip_prefix("bytes")?
            .trim()
            .split('-')
            .next()?
            .parse::<u64>()
            .ok()
    });
    start == Some(offset)
}
