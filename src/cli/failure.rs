//! A failure with an exit code of its own.

use std::fmt;

pub use crate::sentence::sentence;

/// An error that decides the command's exit code; any other ends it with 1.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    message: String,
}

impl Failure {
    /// A failure with this sentence.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code: u8::try_from(code).unwrap_or(125),
            message: message.into(),
        }
    }

    /// A failure of what the command asked for, in docker's sense of "the daemon said no".
    pub fn daemon(code: i32, error: impl Into<anyhow::Error>) -> Self {
        Self::new(code, sentence(&error.into()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
