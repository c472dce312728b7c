//! `ADD` of an address: one file over HTTP, checked if a checksum was given.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use super::super::copy::Source;
use super::super::layer::Content;
use crate::build::Builder;
use crate::image::digest::{Digest, HashWriter};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether a source is to be fetched.
pub(super) fn is_url(source: &str) -> bool {
    let lower = source.to_ascii_lowercase();
    (lower.starts_with("http://") || lower.starts_with("https://")) && !is_git(source)
}

/// Whether a source is a git repository.
pub(super) fn is_git(source: &str) -> bool {
    let path = source.split(['#', '?']).next().unwrap_or_default();
    source.starts_with("git@") || source.starts_with("git://") || path.ends_with(".git")
}

/// Fetches a file.
pub(super) fn fetch(
    builder: &Builder<'_>,
    address: &str,
    checksum: Option<&str>,
    into_directory: bool,
) -> Result<Source, String> {
    let path = address.split(['#', '?']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name = path
        .split_once('/')
        .and_then(|(_, path)| path.rsplit('/').next());
    let name = name.unwrap_or_default();
    if name.is_empty() && into_directory {
        return Err(format!(
            "cannot determine a file's name from {address}, name it in the destination"
        ));
    }
    let expected = checksum
        .map(str::parse::<Digest>)
        .transpose()
        .map_err(|error| format!("--checksum: {error}"))?;
    let failed = |error: &dyn std::fmt::Display| format!("cannot fetch {address}: {error}");
    let spool = builder
        .store
        .temp_file("add")
        .map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let mut hash = HashWriter::new(spool.file());
    let size = runtime
        .block_on(download(address, &mut hash))
        .map_err(|error| failed(&error))?;
    let (digest, _) = hash.finish();
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        return Err(failed(&format!(
            "its digest is {digest}, not {expected} as --checksum has it"
        )));
    }
    let file = spool.file().try_clone().map_err(|error| failed(&error))?;
    let content = Content::Slice(Arc::new(file), 0);
    Ok(Source::Fetched(name.to_owned(), content, size))
}

async fn download(address: &str, out: &mut impl Write) -> Result<u64, String> {
    // Fails when another part of the process chose one before, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .user_agent(concat!("hull/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
        .map_err(|error| error.to_string())?;
    let sent = client.get(address).send().await;
    let answer = sent.and_then(reqwest::Response::error_for_status);
    let mut answer = answer.map_err(|error| error.without_url().to_string())?;
    let mut size = 0;
    while let Some(piece) = answer.chunk().await.map_err(|error| error.to_string())? {
        out.write_all(&piece).map_err(|error| error.to_string())?;
        size += piece.len() as u64;
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_files() {
        assert!(is_url("https://example.org/a.tar") && !is_url("a.tar"));
        assert!(is_git("https://example.org/x.git#v1") && !is_url("https://example.org/x.git"));
        assert!(is_git("git@example.org:x/y"));
    }
}
