//! What a build takes from elsewhere: git repositories and what addresses lead to.

pub mod git;
mod http;
mod objects;

pub use git::{Login, Wanted};
pub use http::fetch;

/// Whether a text is the address of something to download.
pub fn is_url(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    (lower.starts_with("http://") || lower.starts_with("https://")) && !is_git(text)
}

/// Whether a text is the address of a git repository, in a form that nothing else has.
pub fn is_git(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let schemes = ["git://", "git@", "ssh://"];
    let http = lower.starts_with("http://") || lower.starts_with("https://");
    let path = lower.split(['#', '?']).next().unwrap_or_default();
    schemes.iter().any(|scheme| lower.starts_with(scheme)) || (http && path.ends_with(".git"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_files() {
        assert!(is_url("https://example.org/a.tar") && !is_url("a.tar"));
        assert!(is_git("https://example.org/x.git#v1") && !is_url("https://example.org/x.git"));
        assert!(is_git("git@example.org:x/y") && is_git("ssh://git@example.org/x"));
        assert!(!is_git("x.git") && !is_git("./git"));
    }
}
