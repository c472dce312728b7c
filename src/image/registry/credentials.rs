//! Credentials as docker keeps them: `config.json` and credential helpers.

use std::fs::File;
use std::io::{self, BufReader, Read};

use docker_credential::{CredentialRetrievalError, DockerCredential};

use super::{RegistryError, docker_config};
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

/// The user's credentials for the registry of this name.
pub fn find(registry: &str) -> Result<Credentials, RegistryError> {
    let Some(path) = docker_config::path() else {
        return Ok(Credentials::Anonymous);
    };
    let fail = |reason: String| RegistryError::Credentials {
        registry: registry.to_owned(),
        reason: format!("{}: {reason}", path.display()),
    };
    match File::open(&path) {
        Ok(file) => read(registry, BufReader::new(file)).map_err(fail),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Credentials::Anonymous)
        }
        Err(error) => Err(fail(error.to_string())),
    }
}

/// How docker's configuration spells the name of a registry.
pub(super) fn key(registry: &str) -> &str {
    match registry {
        DEFAULT_REGISTRY => DOCKER_HUB_KEY,
        other => other,
    }
}

fn read(registry: &str, config: impl Read + Send) -> Result<Credentials, String> {
    let server = key(registry);
    let found =
        docker_config::unharmed(|| docker_credential::get_credential_from_reader(config, server));
    match found {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Credentials::Password(user, password))
        }
        Ok(DockerCredential::IdentityToken(token)) => Ok(Credentials::Identity(token)),
        Err(
            CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::NoCredentialConfigured,
        ) => Ok(Credentials::Anonymous),
        Err(CredentialRetrievalError::ConfigReadError) => {
            Err("it is no docker configuration".to_owned())
        }
        // What helpers print when they have nothing for this server.
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if [&stdout, &stderr]
                .iter()
                .any(|text| text.contains("credentials not found")) =>
        {
            Ok(Credentials::Anonymous)
        }
        Err(error) => Err(error.to_string().trim().replace('\n', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_configuration_is_understood() {
        let config = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"dTpw"},
            "r.example:5000":{"auth":"eDp5Onog"},
            "t.example":{"auth":"dTpw","identitytoken":"secret"}}}"#;
        let password = |user: &str, word: &str| Credentials::Password(user.into(), word.into());
        let find = |registry: &str| read(registry, config.as_bytes()).unwrap();
        assert_eq!(find("docker.io"), password("u", "p"));
        assert_eq!(find("r.example:5000"), password("x", "y:z "));
        assert_eq!(
            find("t.example"),
            Credentials::Identity("secret".to_owned())
        );
        assert_eq!(find("other.example"), Credentials::Anonymous);
        assert_eq!(read("x", "{}".as_bytes()), Ok(Credentials::Anonymous));
        assert!(read("x", "[".as_bytes()).is_err());
        assert_eq!(format!("{:?}", find("docker.io")), "Password(..)");
    }
}
