//! Talking to registries: the distribution protocol over HTTP.
//!
//! Everything a registry says is bounded, verified or ignored: documents have a size limit,
//! content is checked against its digest, redirects and upload locations never see credentials
//! of another host, and a server that keeps failing is given up after a few attempts with
//! growing pauses.

mod answers;
mod auth;
mod blob;
mod credentials;
mod docker_config;
mod endpoint;
mod patience;
mod session;
mod upload;

pub use blob::Source;
pub use credentials::{Credentials, find as find_credentials};
pub use docker_config::{Kept, forget, keep};
pub use endpoint::{Endpoint, endpoints, origin};
pub use session::{Access, Fetched, Session};
pub use upload::Content;

use super::digest::Digest;

/// Why a registry did not do what was asked; the wording is docker's where docker has one.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No connection, or it broke and stayed broken.
    #[error("cannot reach the registry at {endpoint}: {reason}")]
    Unreachable {
        /// The registry's address.
        endpoint: String,
        /// What the network said.
        reason: String,
    },
    /// The registry knows no such image.
    #[error("manifest for {reference} not found: manifest unknown: {message}")]
    ManifestUnknown {
        /// The image that was asked for.
        reference: String,
        /// What the registry said.
        message: String,
    },
    /// The registry does not let this user see or write the repository.
    #[error(
        "{action} access denied for {repository}, repository does not exist or may require \
         'docker login': denied: {message}"
    )]
    Denied {
        /// `pull` or `push`.
        action: &'static str,
        /// The repository.
        repository: String,
        /// What the registry said.
        message: String,
    },
    /// A blob that the manifest names is not there.
    #[error("the registry at {endpoint} does not have {digest}, which the image's manifest names")]
    BlobUnknown {
        /// The registry's address.
        endpoint: String,
        /// The blob.
        digest: Digest,
    },
    /// The registry wants fewer requests.
    #[error("toomanyrequests: {message}")]
    TooManyRequests {
        /// What the registry said.
        message: String,
    },
    /// Any other answer than the protocol has.
    #[error("the registry at {endpoint} answered the request for {what} with {status}: {message}")]
    Status {
        /// The registry's address.
        endpoint: String,
        /// What was asked.
        what: String,
        /// The HTTP status.
        status: u16,
        /// What the registry said.
        message: String,
    },
    /// A document is larger than the limit.
    #[error(
        "{what} at {endpoint} is larger than {limit} bytes (limits.manifest-bytes in the settings)"
    )]
    TooLarge {
        /// The registry's address.
        endpoint: String,
        /// Which document.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// The registry breaks the protocol.
    #[error("the registry at {endpoint} {problem}")]
    Protocol {
        /// The registry's address.
        endpoint: String,
        /// What it did.
        problem: String,
    },
    /// The user's docker configuration or a credential helper does not work.
    #[error("cannot get credentials for {registry}: {reason}")]
    Credentials {
        /// The registry.
        registry: String,
        /// What went wrong.
        reason: String,
    },
    /// Credentials cannot be written to or removed from the user's docker configuration.
    #[error("cannot change what is kept for {registry}: {reason}")]
    Keeping {
        /// The registry.
        registry: String,
        /// What went wrong.
        reason: String,
    },
    /// The registry does not know this user with this password.
    #[error("login to {registry} failed: {message}")]
    Login {
        /// The registry.
        registry: String,
        /// What the registry said.
        message: String,
    },
    /// What is to be sent cannot be read.
    #[error("{what} failed, its content cannot be read: {cause}")]
    Content {
        /// Which upload.
        what: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The TLS or HTTP machinery could not be set up.
    #[error("cannot set up HTTPS: {0}")]
    Setup(String),
}

impl RegistryError {
    /// Whether another attempt a little later may succeed.
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TooManyRequests { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 408,
            _ => false,
        }
    }
}

/// An error with all its causes, which is where reqwest keeps what went wrong.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
