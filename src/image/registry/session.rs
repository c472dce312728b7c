//! One repository at one address: authenticated requests, documents.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode};

use super::auth::{self, Challenge, TokenError};
use super::credentials::{self, Credentials};
use super::endpoint::Endpoint;
use super::{RegistryError, causes};
use crate::image::digest::Digest;
use crate::image::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::image::reference::{DEFAULT_TAG, Reference};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a server may stay silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts at one request, or at a blob without a byte arriving.
pub(super) const ATTEMPTS: u32 = 5;
/// The pause before the second attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause that a server can make us take.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How much of an error page is read.
const MESSAGE_LIMIT: u64 = 64 << 10;

/// What the user wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

impl Access {
    fn verb(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }

    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// A document as the registry sent it.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// What the registry says it is.
    pub media_type: Option<String>,
}

/// Requests for one repository at one address.
#[derive(Debug)]
pub struct Session {
    http: Client,
    base: String,
    repository: String,
    familiar: String,
    access: Access,
    credentials: Credentials,
    authorization: Mutex<Option<HeaderValue>>,
}

impl Session {
    /// Finds out how to talk to the endpoint, and whether it answers at all.
    pub async fn open(
        endpoint: &Endpoint,
        reference: &Reference,
        access: Access,
    ) -> Result<Self, RegistryError> {
        let mut session = Self {
            http: client(endpoint.accept_any_certificate)?,
            base: endpoint.base.clone(),
            repository: reference.repository().to_owned(),
            familiar: reference.familiar_name(),
            access,
            credentials: credentials::find(&endpoint.registry)?,
            authorization: Mutex::new(None),
        };
        if let Some(plain) = &endpoint.plain
            && session
                .http
                .get(format!("{}/v2/", session.base))
                .send()
                .await
                .is_err()
        {
            session.base.clone_from(plain);
        }
        Ok(session)
    }

    /// The address, for messages.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn http(&self) -> &Client {
        &self.http
    }

    pub(super) fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.base, self.repository)
    }

    /// Fetches a manifest or index by digest or tag.
    pub async fn manifest(
        &self,
        reference: &Reference,
        limit: u64,
    ) -> Result<Fetched, RegistryError> {
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or(DEFAULT_TAG).to_owned(),
        };
        let url = self.url(&format!("manifests/{name}"));
        let accept = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST].join(", ");
        let what = format!("the manifest of {reference}");
        let response = self
            .send(&what, || {
                self.http.get(&url).header(ACCEPT, accept.as_str())
            })
            .await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(RegistryError::ManifestUnknown {
                reference: reference.to_string(),
                message: self.body_message(response).await,
            });
        }
        let response = self.expect(response, &what, StatusCode::OK).await?;
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let media_type = header(CONTENT_TYPE.as_str());
        let promised = header("docker-content-digest").and_then(|text| text.parse().ok());
        let bytes = self.read(response, &what, limit).await?;
        let digest = Digest::of(&bytes);
        match reference.digest().or(promised) {
            Some(expected) if expected != digest => Err(self.protocol(format!(
                "sent {what} with the digest {digest} instead of {expected}"
            ))),
            _ => Ok(Fetched {
                bytes,
                digest,
                media_type,
            }),
        }
    }

    /// The tags of the repository, page after page up to `limit` of them.
    pub async fn tags(&self, limit: usize, bytes: u64) -> Result<Vec<String>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let what = "the list of tags";
        let mut tags: Vec<String> = Vec::new();
        loop {
            let last = tags.last().cloned();
            let url = self.url("tags/list");
            let request = || {
                let mut url = reqwest::Url::parse(&url).ok()?;
                url.query_pairs_mut().append_pair("n", "1000");
                if let Some(last) = &last {
                    url.query_pairs_mut().append_pair("last", last);
                }
                Some(url)
            };
            let url = request().ok_or_else(|| self.protocol("has no usable address".to_owned()))?;
            let response = self.send(what, || self.http.get(url.clone())).await?;
            let response = self.expect(response, what, StatusCode::OK).await?;
            let more = response.headers().contains_key("link");
            let body = self.read(response, what, bytes).await?;
            let page: Page = serde_json::from_slice(&body)
                .map_err(|error| self.protocol(format!("sent no list of tags: {error}")))?;
            let before = tags.len();
            tags.extend(page.tags.unwrap_or_default());
            if !more || tags.len() == before || tags.len() >= limit {
                return Ok(tags);
            }
        }
    }

    /// Fetches a small blob whole and verifies it.
    pub async fn small_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let url = self.url(&format!("blobs/{digest}"));
        let what = format!("the configuration {}", digest.short());
        let response = self.send(&what, || self.http.get(&url)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(self.blob_unknown(digest));
        }
        let response = self.expect(response, &what, StatusCode::OK).await?;
        let bytes = self.read(response, &what, limit).await?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            return Err(self.protocol(format!(
                "sent {what} with the digest {actual} instead of {digest}"
            )));
        }
        Ok(bytes)
    }

    /// Sends a request, answering an authentication challenge, with a few attempts when the
    /// server is overloaded. Who does not answer at all is not asked again: they will not be
    /// there in a moment either, and there may be another address to try.
    pub(super) async fn send(
        &self,
        what: &str,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let mut attempt = 1;
        loop {
            let response = self.send_authenticated(what, &request).await?;
            if !is_overload(response.status()) {
                return Ok(response);
            }
            let wait = retry_after(response.headers()).unwrap_or_else(|| pause(attempt));
            let error = self.failure(response, what).await;
            if attempt >= ATTEMPTS || !error.is_transient() {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    async fn send_authenticated(
        &self,
        what: &str,
        request: &impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let response = self.send_once(request(), self.authorization()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(authorization) = self.answer_challenge(response.headers()).await? else {
            return Err(self.failure(response, what).await);
        };
        let response = self
            .send_once(request(), Some(authorization.clone()))
            .await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(self.failure(response, what).await);
        }
        *self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        Ok(response)
    }

    async fn send_once(
        &self,
        request: RequestBuilder,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let request = match authorization {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        };
        request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))
    }

    /// What the last challenge was answered with.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        self.authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The header that answers a `401`, or none when we have nothing to answer with.
    async fn answer_challenge(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let server = match (auth::challenge(headers), &self.credentials) {
            (Some(Challenge::Bearer(server)), _) => server,
            (Some(Challenge::Basic), Credentials::Password(user, password)) => {
                let request = self
                    .http
                    .get(&self.base)
                    .basic_auth(user, Some(password))
                    .build();
                return Ok(request
                    .ok()
                    .and_then(|it| it.headers().get(AUTHORIZATION).cloned()));
            }
            _ => return Ok(None),
        };
        let scope = format!("repository:{}:{}", self.repository, self.access.actions());
        match auth::token(&self.http, &server, &scope, &self.credentials).await {
            Ok(token) => Ok(auth::sensitive(&format!("Bearer {token}"))),
            Err(TokenError::Unreachable(reason)) => Err(RegistryError::Unreachable {
                endpoint: server.realm,
                reason,
            }),
            Err(TokenError::Refused(401 | 403, message)) => Err(self.denied(message)),
            Err(TokenError::Refused(429, message)) => {
                Err(RegistryError::TooManyRequests { message })
            }
            Err(TokenError::Refused(status, message)) => Err(RegistryError::Status {
                endpoint: server.realm,
                what: "a token".to_owned(),
                status,
                message,
            }),
            Err(TokenError::Malformed(problem)) => {
                Err(self.protocol(format!("asks for a token, but {problem}")))
            }
        }
    }

    /// The response, if it has this status.
    pub(super) async fn expect(
        &self,
        response: Response,
        what: &str,
        status: StatusCode,
    ) -> Result<Response, RegistryError> {
        if response.status() == status {
            return Ok(response);
        }
        Err(self.failure(response, what).await)
    }

    /// The error that an unexpected response stands for.
    pub(super) async fn failure(&self, response: Response, what: &str) -> RegistryError {
        let status = response.status();
        let message = self.body_message(response).await;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.denied(message),
            StatusCode::TOO_MANY_REQUESTS => RegistryError::TooManyRequests { message },
            _ => RegistryError::Status {
                endpoint: self.base.clone(),
                what: what.to_owned(),
                status: status.as_u16(),
                message,
            },
        }
    }

    async fn body_message(&self, response: Response) -> String {
        let reason = response
            .status()
            .canonical_reason()
            .unwrap_or("no reason given");
        match self.read(response, "an error", MESSAGE_LIMIT).await {
            Ok(body) if !message(&body).is_empty() => message(&body),
            _ => reason.to_lowercase(),
        }
    }

    async fn read(
        &self,
        mut response: Response,
        what: &str,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unreachable(&e))? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > limit {
                return Err(RegistryError::TooLarge {
                    endpoint: self.base.clone(),
                    what: what.to_owned(),
                    limit,
                });
            }
        }
        Ok(body)
    }

    pub(super) fn unreachable(&self, error: &reqwest::Error) -> RegistryError {
        RegistryError::Unreachable {
            endpoint: self.base.clone(),
            reason: reason(error),
        }
    }

    pub(super) fn protocol(&self, problem: String) -> RegistryError {
        RegistryError::Protocol {
            endpoint: self.base.clone(),
            problem,
        }
    }

    pub(super) fn blob_unknown(&self, digest: &Digest) -> RegistryError {
        RegistryError::BlobUnknown {
            endpoint: self.base.clone(),
            digest: *digest,
        }
    }

    fn denied(&self, message: String) -> RegistryError {
        RegistryError::Denied {
            action: self.access.verb(),
            repository: self.familiar.clone(),
            message,
        }
    }
}

fn client(accept_any_certificate: bool) -> Result<Client, RegistryError> {
    // Fails when another part of the process chose one before, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("hull/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .tls_danger_accept_invalid_certs(accept_any_certificate)
        .build()
        .map_err(|error| RegistryError::Setup(causes(&error)))
}

/// What went wrong on the way, without the address, which the message names anyway.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn is_overload(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || status.is_server_error()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// The pause after this many attempts.
pub(super) fn pause(attempts: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << attempts.saturating_sub(1).min(10))
        .min(LONGEST_PAUSE)
}

/// The message in an error body of the distribution protocol, or the body itself when it is one
/// short line of text.
pub(super) fn message(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let of = |value: &serde_json::Value| {
        let text = ["message", "details", "code"]
            .iter()
            .find_map(|key| value.get(key)?.as_str());
        text.map(str::to_owned)
    };
    let found = json
        .get("errors")
        .and_then(|errors| of(errors.get(0)?))
        .or_else(|| of(&json));
    let text = found.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body).trim().to_owned();
        if text.len() < 200 && !text.contains(['<', '\n', '{']) {
            text
        } else {
            String::new()
        }
    });
    text.chars()
        .filter(|character| !character.is_control())
        .take(400)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_in_what_registries_say() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no","detail":{}}]}"#,
                "no",
            ),
            (r#"{"errors":[{"code":"DENIED"}]}"#, "DENIED"),
            (
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            ("plain text\n", "plain text"),
            ("<html>502</html>", ""),
            (r#"{"errors":[]}"#, ""),
            ("\u{1b}[31mred", "[31mred"),
        ] {
            assert_eq!(message(body.as_bytes()), expected);
        }
        assert_eq!(message(&[0xff; 500]), "");
    }

    #[test]
    fn pauses_grow_and_end() {
        assert_eq!(pause(1), FIRST_PAUSE);
        assert_eq!(pause(2), FIRST_PAUSE * 2);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("99999"));
        assert_eq!(retry_after(&headers), Some(LONGEST_PAUSE));
    }
}
