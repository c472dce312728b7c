//! Credentials as docker keeps them: `config.json` and credential helpers.

use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential};

use super::RegistryError;
use crate::image::reference::DEFAULT_REGISTRY;

/// How docker's configuration spells the default registry.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Who the user is at a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// A user with a password.
    Password(String, String),
    /// A token to get other tokens with.
    Identity(String),
}

impl std::fmt::Debug for Credentials {
    /// Tells the kind only: secrets belong in no log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Password(..) => "Password(..)",
            Self::Identity(_) => "Identity(..)",
        })
    }
}

/// Whether docker's configuration is there; the crate takes a missing file for a broken one.
fn config_exists() -> bool {
    let directory = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    directory.or_else(home).is_some_and(|directory| directory.join("config.json").exists())
}

/// The user's credentials for the registry of this name.
pub fn find(registry: &str) -> Result<Credentials, RegistryError> {
    let key = if registry == DEFAULT_REGISTRY {
        DOCKER_HUB_KEY
    } else {
        registry
    };
    if !config_exists() {
        return Ok(Credentials::Anonymous);
    }
    match docker_credential::get_credential(key) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Credentials::Password(user, password))
        }
        Ok(DockerCredential::IdentityToken(token)) => Ok(Credentials::Identity(token)),
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::NoCredentialConfigured,
        ) => Ok(Credentials::Anonymous),
        // What helpers print when they have nothing for this server.
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if [&stdout, &stderr]
                .iter()
                .any(|text| text.contains("credentials not found in native keychain")) =>
        {
            Ok(Credentials::Anonymous)
        }
        Err(error) => Err(RegistryError::Credentials {
            registry: registry.to_owned(),
            reason: error.to_string().trim().replace('\n', " "),
        }),
    }
}
