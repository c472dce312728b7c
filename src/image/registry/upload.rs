//! Sending blobs and manifests.

use std::io::{self, Read};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Response, StatusCode, Url};
use tokio::sync::mpsc;

use super::RegistryError;
use super::patience::{ATTEMPTS, pause};
use super::session::Session;
use crate::image::digest::Digest;

/// What a blob's bytes are read from.
pub type Content = Box<dyn Read + Send + 'static>;

const PIECE: usize = 256 << 10;

impl Session {
    /// Whether the registry has a blob.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let url = self.url(&format!("blobs/{digest}"));
        let what = format!("layer {}", digest.short());
        let response = self.send(&what, || self.http().head(&url)).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.failure(response, &what).await),
        }
    }

    /// Sends a blob, anew when the connection breaks. `open` gives its bytes from the start;
    /// `progress` is told the bytes sent so far.
    pub async fn push_blob(
        &self,
        digest: &Digest,
        size: u64,
        open: &dyn Fn() -> io::Result<Content>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let mut attempt = 1;
        loop {
            match self.push_blob_once(digest, size, open, progress).await {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn push_blob_once(
        &self,
        digest: &Digest,
        size: u64,
        open: &dyn Fn() -> io::Result<Content>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let what = format!("the upload of {}", digest.short());
        let begin = self.url("blobs/uploads/");
        let response = self
            .send(&what, || self.http().post(&begin).header(CONTENT_LENGTH, 0))
            .await?;
        let response = self.expect(response, &what, StatusCode::ACCEPTED).await?;
        let mut target = self.location(&response)?;
        target
            .query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let content = open().map_err(|cause| RegistryError::Content {
            what: what.clone(),
            cause,
        })?;
        let (body, pieces) = body(content);
        let mut request = self
            .http()
            .put(target.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .body(body);
        if let Some(authorization) = self.authorization()
            && Url::parse(self.base()).is_ok_and(|base| base.origin() == target.origin())
        {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut answer = std::pin::pin!(request.send());
        let mut pieces = pieces;
        let mut sent = 0;
        let response = loop {
            tokio::select! {
                response = &mut answer => break response,
                Some(count) = pieces.recv() => {
                    sent += count;
                    progress(sent);
                }
            }
        };
        let response = response.map_err(|error| self.unreachable(&error))?;
        self.expect(response, &what, StatusCode::CREATED).await?;
        Ok(())
    }

    /// Where the registry wants the upload: an absolute or relative address.
    fn location(&self, response: &Response) -> Result<Url, RegistryError> {
        let text = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        text.and_then(|text| response.url().join(text).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https") && !url.cannot_be_a_base())
            .ok_or_else(|| self.protocol("does not say where to upload to".to_owned()))
    }

    /// Stores a manifest under a tag or digest.
    pub async fn push_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{name}"));
        let what = "the upload of the manifest";
        let body = Bytes::copy_from_slice(bytes);
        let response = self
            .send(what, || {
                self.http()
                    .put(&url)
                    .header(CONTENT_TYPE, media_type)
                    .body(body.clone())
            })
            .await?;
        self.expect(response, what, StatusCode::CREATED).await?;
        Ok(())
    }
}

/// A body that reads `content` piece by piece, and the sizes of the pieces that it gave away.
/// Reads block for as long as the page cache takes, which is what the threads of a push are for.
fn body(content: Content) -> (Body, mpsc::UnboundedReceiver<u64>) {
    let (tell, told) = mpsc::unbounded_channel();
    let stream = futures_util::stream::unfold(content, move |mut content| {
        let tell = tell.clone();
        async move {
            let mut piece = vec![0; PIECE];
            match content.read(&mut piece) {
                Ok(0) => None,
                Ok(count) => {
                    piece.truncate(count);
                    // Nobody listens any more once the registry has answered.
                    let _ = tell.send(count as u64);
                    Some((Ok(Bytes::from(piece)), content))
                }
                Err(error) => Some((Err::<Bytes, io::Error>(error), content)),
            }
        }
    });
    (Body::wrap_stream(stream), told)
}
