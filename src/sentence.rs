//! Errors as people read them: one sentence.

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
