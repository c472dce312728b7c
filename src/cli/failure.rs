//! A failure with an exit code of its own.

use std::fmt;

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

/// An error and its causes in one sentence; a cause that the error's own text repeats is
/// left out.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn causes_are_told_once() {
        let error = anyhow::anyhow!("no space")
            .context("writing x: no space")
            .context("saving");
        assert_eq!(sentence(&error), "saving: writing x: no space");
        let plain = Err::<(), _>(std::io::Error::other("broken"))
            .context("reading")
            .unwrap_err();
        assert_eq!(sentence(&plain), "reading: broken");
    }
}
