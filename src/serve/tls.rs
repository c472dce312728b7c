//! TLS in both directions, for `--tcp`: whoever asks for something there has shown a certificate of
//! the authority that was named, and sees one of the server.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Remote;

/// How long a client on the network may be silent before it is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(30);

/// Why the certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or not what it should be.
    #[error("cannot use {path} for --tcp: {cause}, it has to be a file of PEM")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: pem::Error,
    },
    /// A file has no certificate in it.
    #[error("there is no certificate in {0}, which --tcp needs")]
    Empty(PathBuf),
    /// The authority is none.
    #[error("nobody's certificate can be checked with {path}: {cause}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: VerifierBuilderError,
    },
    /// Certificate and key do not fit, or are of a kind that is not known.
    #[error("the certificate and the key for --tcp cannot be used: {0}")]
    Config(#[from] rustls::Error),
}

/// What takes connections from clients that show a certificate, and from no others.
pub fn acceptor(remote: &Remote) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in certificates(&remote.authority)? {
        roots.add(authority)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = verifier.build().map_err(|cause| TlsError::Authority {
        path: remote.authority.clone(),
        cause,
    })?;
    let key = PrivateKeyDer::from_pem_file(&remote.key).map_err(|cause| TlsError::File {
        path: remote.key.clone(),
        cause,
    })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&remote.certificate)?, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |cause| TlsError::File {
        path: path.to_owned(),
        cause,
    };
    let found = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(wrong)?;
    match found.is_empty() {
        true => Err(TlsError::Empty(path.to_owned())),
        false => Ok(found),
    }
}

/// Finds out when a client's machine has gone without a word: an attached client may be silent
/// for as long as its container is.
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let asked = TcpKeepalive::new()
        .with_time(SILENCE)
        .with_interval(SILENCE);
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&asked)
}
