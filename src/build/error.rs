//! Why a build failed.

use std::io;

use super::copy::CopyError;
use super::dockerfile::Mistake;
use super::files::FileError;
use super::guest::GuestFailure;
use crate::arch::platform::PlatformError;
use crate::image::ImageError;
use crate::image::digest::Digest;
use crate::store::StoreError;

/// Everything that ends a build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something in the Dockerfile, shown where it stands.
    #[error("{0}")]
    Mistake(#[from] Mistake),
    /// A command of the Dockerfile failed.
    #[error("The command '{command}' returned a non-zero code: {code}")]
    Command {
        /// What was run.
        command: String,
        /// Its exit code.
        code: i32,
        /// The image that it was run on.
        image: Option<Digest>,
    },
    /// A command of the Dockerfile could not be run.
    #[error("The command '{command}' could not be run: {why}")]
    Refused {
        /// What was to be run.
        command: String,
        /// Docker's exit code for it.
        code: i32,
        /// Why not.
        why: String,
        /// The image that it was to be run on.
        image: Option<Digest>,
    },
    /// The guest of a stage.
    #[error(transparent)]
    Guest(#[from] GuestFailure),
    /// An image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files of the context or of an image.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A platform that is none.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// Reading or writing failed.
    #[error("cannot {0}: {1}")]
    Io(String, io::Error),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Another stage failed; nobody needs to hear of this one.
    #[error("stopped because another stage failed")]
    Stopped,
}

impl BuildError {
    /// The exit code: a failed command's own, as in docker.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Command { code, .. } | Self::Refused { code, .. } => *code,
            _ => 1,
        }
    }
}
