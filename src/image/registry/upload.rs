//! Sending blobs and manifests.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Response, StatusCode, Url};

use super::RegistryError;
use super::session::{ATTEMPTS, Session, pause};
use crate::image::digest::Digest;

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

    /// Sends a blob from a file, anew when the connection breaks. `progress` is told the bytes
    /// sent so far.
    pub async fn push_blob(
        &self,
        digest: &Digest,
        size: u64,
        file: &File,
        progress: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<(), RegistryError> {
        let mut attempt = 1;
        loop {
            match self
                .push_blob_once(digest, size, file, Arc::clone(&progress))
                .await
            {
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
        file: &File,
        progress: Arc<dyn Fn(u64) + Send + Sync>,
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
        let local = |error: std::io::Error| {
            self.protocol(format!(
                "cannot be sent {}: reading it failed: {error}",
                digest.short()
            ))
        };
        let mut file = file.try_clone().map_err(local)?;
        file.rewind().map_err(local)?;
        let mut request = self
            .http()
            .put(target.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .body(Body::wrap_stream(pieces(file, progress)));
        if let Some(authorization) = self.authorization()
            && Url::parse(self.base()).is_ok_and(|base| base.origin() == target.origin())
        {
            request = request.header(reqwest::header::AUTHORIZATION, authorization);
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
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

/// A file in pieces. Reads block for as long as the page cache takes, which is what the threads
/// of a push are for.
fn pieces(
    file: File,
    progress: Arc<dyn Fn(u64) + Send + Sync>,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    futures_util::stream::unfold((file, 0_u64), move |(mut file, mut sent)| {
        let progress = Arc::clone(&progress);
        async move {
            let mut piece = vec![0; PIECE];
            match file.read(&mut piece) {
                Ok(0) => None,
                Ok(count) => {
                    piece.truncate(count);
                    sent += count as u64;
                    progress(sent);
                    Some((Ok(Bytes::from(piece)), (file, sent)))
                }
                Err(error) => Some((Err(error), (file, sent))),
            }
        }
    })
}
