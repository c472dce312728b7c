//! Downloading one file, hashed as it comes.

use std::io::Write;
use std::time::Duration;

use crate::image::digest::{Digest, HashWriter};
use crate::store::{Store, TempFile};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A file that was downloaded.
#[derive(Debug)]
pub struct Fetched {
    /// Where it is; gone with this.
    pub file: TempFile,
    /// Of what came.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// Downloads what an address leads to, at most `limit` bytes.
pub fn fetch(store: &Store, address: &str, limit: u64) -> Result<Fetched, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot fetch {address}: {error}");
    let file = store
        .temp_file("download")
        .map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let mut hash = HashWriter::new(file.file());
    let size = runtime
        .block_on(download(address, &mut hash, limit))
        .map_err(|error| failed(&error))?;
    let (digest, _) = hash.finish();
    Ok(Fetched { file, digest, size })
}

async fn download(address: &str, out: &mut impl Write, limit: u64) -> Result<u64, String> {
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
        size += piece.len() as u64;
        if size > limit {
            return Err(format!("it is longer than {limit} bytes"));
        }
        out.write_all(&piece).map_err(|error| error.to_string())?;
    }
    Ok(size)
}
