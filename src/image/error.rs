//! Why an operation on images failed.

use super::digest::Digest;
use super::layer::LayerError;
use super::reference::ReferenceError;
use crate::arch::Platform;
use crate::arch::platform::PlatformError;
use crate::store::StoreError;

/// Everything that can go wrong with an image; the wording is docker's where docker has one.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text is no image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The text, or an image's configuration, names no platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The state directory cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No local image has this name or identifier.
    #[error("No such image: {0}")]
    NotFound(String),
    /// Nothing local to push.
    #[error("An image does not exist locally with the tag: {0}")]
    NoTag(String),
    /// Several local images have identifiers that begin so.
    #[error("image ID {prefix} is ambiguous: it could be any of {candidates}")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// The identifiers that begin with it.
        candidates: String,
    },
    /// A manifest, index or configuration is not what it should be.
    #[error("invalid {what}: {reason}")]
    Document {
        /// Which document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A multi-platform image has nothing for the platform.
    #[error(
        "no matching manifest for {wanted} in the manifest list entries: the image exists for \
         {available}"
    )]
    NoSuchPlatform {
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        available: String,
    },
    /// A single-platform image is for another platform than the one asked for.
    #[error(
        "image with reference {reference} was found but its platform ({actual}) does not match \
         the specified platform ({wanted})"
    )]
    PlatformMismatch {
        /// The image.
        reference: String,
        /// What it is for.
        actual: Box<Platform>,
        /// What was asked for.
        wanted: Box<Platform>,
    },
    /// Content does not have the digest under which it was asked for.
    #[error("{what} is corrupt: its digest is {actual}, not {expected} as promised")]
    Digest {
        /// Which content.
        what: String,
        /// What it should be.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// Content has another size than promised.
    #[error("{what} is corrupt: it has {actual} bytes, not {expected} as promised")]
    Size {
        /// Which content.
        what: String,
        /// What it should be.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The registry, or the way to it, failed.
    #[error(transparent)]
    Registry(#[from] super::registry::RegistryError),
    /// A layer's archive is broken or breaks the rules.
    #[error("layer {layer}: {cause}")]
    Layer {
        /// The layer's digest, shortened.
        layer: String,
        /// What is wrong.
        cause: LayerError,
    },
    /// Reading or writing something outside of the store failed.
    #[error("cannot {action}: {cause}")]
    Io {
        /// What was tried.
        action: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// An archive given to `load` or `import` cannot be used.
    #[error("invalid image archive: {0}")]
    Archive(String),
    /// What was asked for makes no sense; the sentence says why.
    #[error("{0}")]
    Usage(String),
    /// An image is still needed.
    #[error("conflict: {0}")]
    Conflict(String),
}

impl ImageError {
    pub(crate) fn document(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Document {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn io(action: impl Into<String>, cause: std::io::Error) -> Self {
        Self::Io {
            action: action.into(),
            cause,
        }
    }

    /// Whether this machine is to blame, so that trying another registry cannot help.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Store(_) | Self::Io { .. } | Self::Platform(_) | Self::Reference(_) => true,
            Self::Layer { cause, .. } => matches!(cause, LayerError::Write(_)),
            _ => false,
        }
    }
}
