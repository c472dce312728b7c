//! One repository at one address: authenticated requests, documents.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};

use super::auth::{self, Challenge, TokenError};
use super::credentials::{self, Credentials};
use super::endpoint::Endpoint;
use super::patience::{ATTEMPTS, is_overload, pause, retry_after};
use super::{RegistryError, causes};
use crate::image::digest::Digest;
use crate::image::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::image::reference::{DEFAULT_TAG, Reference};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a server may stay silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What the user wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

impl Access {
    pub(super) fn verb(self) -> &'static str {
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
    pub(super) familiar: String,
    pub(super) access: Access,
    credentials: Credentials,
    authorization: Mutex<Option<HeaderValue>>,
}

impl Session {
    /// Begins to talk to the endpoint, as the user whose credentials docker keeps where the
    /// endpoint does not say otherwise.
    pub async fn open(
        endpoint: &Endpoint,
        reference: &Reference,
        access: Access,
    ) -> Result<Self, RegistryError> {
        let credentials = match endpoint.credentials.clone() {
            Some(credentials) => credentials,
            None => credentials::find(&endpoint.registry)?,
        };
        Self::open_as(credentials, endpoint, reference, access).await
    }

    /// The same as somebody in particular.
    pub(super) async fn open_as(
        credentials: Credentials,
        endpoint: &Endpoint,
        reference: &Reference,
        access: Access,
    ) -> Result<Self, RegistryError> {
        let names = (reference.repository(), reference.familiar_name());
        Self::begin(credentials, endpoint, names, access).await
    }

    /// Whether the registry knows this user, or asks for none.
    pub async fn login(endpoint: &Endpoint, credentials: Credentials) -> Result<(), RegistryError> {
        let names = ("", endpoint.registry.clone());
        let session = Self::begin(credentials, endpoint, names, Access::Pull).await?;
        let url = format!("{}/v2/", session.base);
        let what = "the login";
        let failed = |message| RegistryError::Login {
            registry: endpoint.registry.clone(),
            message,
        };
        let response = match session.send(what, || session.http.get(&url)).await {
            Err(RegistryError::Denied { message, .. }) => return Err(failed(message)),
            other => other?,
        };
        session.expect(response, what, StatusCode::OK).await?;
        Ok(())
    }

    /// Finds out how to talk to the endpoint, and whether it answers at all.
    async fn begin(
        credentials: Credentials,
        endpoint: &Endpoint,
        (repository, familiar): (&str, String),
        access: Access,
    ) -> Result<Self, RegistryError> {
        let mut session = Self {
            http: client(endpoint.accept_any_certificate)?,
            base: endpoint.base.clone(),
            repository: repository.to_owned(),
            familiar,
            access,
            credentials,
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
        let scope = match self.repository.as_str() {
            "" => String::new(),
            repository => format!("repository:{repository}:{}", self.access.actions()),
        };
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
