//! Logging in to registries: asking them whether they know the user, and keeping what they do.

use super::ImageError;
use super::pull::runtime;
use super::reference::DEFAULT_REGISTRY;
use super::registry::{self, Credentials, Kept, Session};
use crate::settings::Settings;

/// The registry that a user means by what docker calls a server: nothing, a host, or an
/// address.
pub fn registry_named(server: Option<&str>) -> &str {
    let server = server.unwrap_or(DEFAULT_REGISTRY);
    let host = server.split_once("://").map_or(server, |(_, rest)| rest);
    match host.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        other => other,
    }
}

/// Asks a registry whether it knows a user, and keeps the password if it does.
pub fn login(
    settings: &Settings,
    registry: &str,
    user: &str,
    password: &str,
) -> Result<Kept, ImageError> {
    let credentials = Credentials::Password(user.to_owned(), password.to_owned());
    check(settings, registry, credentials)?;
    Ok(registry::keep(registry, user, password)?)
}

/// Asks a registry whether what is kept for it is still good; nothing when nothing is kept.
pub fn login_again(settings: &Settings, registry: &str) -> Result<Option<()>, ImageError> {
    match registry::find_credentials(registry)? {
        Credentials::Anonymous => Ok(None),
        kept => check(settings, registry, kept).map(Some),
    }
}

/// Forgets what is kept for a registry; whether there was anything.
pub fn logout(registry: &str) -> Result<bool, ImageError> {
    Ok(registry::forget(registry)?)
}

/// Asks a registry whether it knows a user; nothing is kept.
pub fn check_login(
    settings: &Settings,
    registry: &str,
    user: &str,
    password: &str,
) -> Result<(), ImageError> {
    let credentials = Credentials::Password(user.to_owned(), password.to_owned());
    check(settings, registry, credentials)
}

fn check(settings: &Settings, registry: &str, who: Credentials) -> Result<(), ImageError> {
    let endpoint = registry::origin(registry, settings);
    Ok(runtime()?.block_on(Session::login(&endpoint, who))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_registries() {
        for hub in [None, Some("https://index.docker.io/v1/"), Some("docker.io")] {
            assert_eq!(registry_named(hub), "docker.io");
        }
        assert_eq!(registry_named(Some("r.example:5000")), "r.example:5000");
        assert_eq!(registry_named(Some("https://r.example/v2/")), "r.example");
    }
}
