//! Where a registry is: its mirrors, and its own address.

use super::credentials::Credentials;
use crate::image::reference::{DEFAULT_REGISTRY, Reference};
use crate::settings::Settings;

/// One address to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme, host, port and any leading path, without a slash at the end.
    pub base: String,
    /// The registry whose credentials apply here.
    pub registry: String,
    /// Whether this is the registry itself and not a mirror.
    pub is_origin: bool,
    /// Accept certificates that nobody vouches for.
    pub accept_any_certificate: bool,
    /// Where to go when `base` offers no TLS.
    pub plain: Option<String>,
    /// Who the user is there, where that is not in docker's configuration.
    pub credentials: Option<Credentials>,
}

/// The addresses to try for an image, in order: mirrors first, the registry itself last. The
/// credentials are for the registry, and no mirror's business.
pub fn endpoints(
    reference: &Reference,
    settings: &Settings,
    credentials: Option<&Credentials>,
) -> Vec<Endpoint> {
    let name = reference.registry();
    let configured = settings.registry(name);
    let mirrors = configured.mirrors.iter().map(|mirror| {
        let base = mirror.trim_end_matches('/').to_owned();
        let host = base.split_once("://").map_or("", |(_, rest)| rest);
        let registry = host.split('/').next().unwrap_or_default().to_owned();
        Endpoint {
            accept_any_certificate: configured.insecure || settings.registry(&registry).insecure,
            base,
            registry,
            is_origin: false,
            plain: None,
            credentials: None,
        }
    });
    let mut origin = origin(name, settings);
    origin.credentials = credentials.cloned();
    mirrors.chain([origin]).collect()
}

/// The address of the registry itself.
pub fn origin(name: &str, settings: &Settings) -> Endpoint {
    let insecure = settings.registry(name).insecure;
    let host = if name == DEFAULT_REGISTRY {
        "registry-1.docker.io"
    } else {
        name
    };
    let insecure = insecure || is_loopback(host);
    Endpoint {
        base: format!("https://{host}"),
        registry: name.to_owned(),
        is_origin: true,
        accept_any_certificate: insecure,
        plain: insecure.then(|| format!("http://{host}")),
        credentials: None,
    }
}

/// Registries on this machine need no TLS, as docker has it.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, _)) if !host.ends_with(']') => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Registry;

    #[test]
    fn mirrors_come_first_and_loopback_needs_no_tls() {
        let mut settings = Settings::default();
        settings.registries.insert(
            "docker.io".to_owned(),
            Registry {
                mirrors: vec!["http://m:5000/".to_owned(), "https://n/path".to_owned()],
                insecure: false,
            },
        );
        let bases = |text: &str| {
            endpoints(&text.parse().unwrap(), &settings, None)
                .into_iter()
                .map(|endpoint| endpoint.base)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            bases("debian"),
            [
                "http://m:5000",
                "https://n/path",
                "https://registry-1.docker.io"
            ]
        );
        assert_eq!(bases("ghcr.io/a/b"), ["https://ghcr.io"]);
        for (host, plain) in [
            ("localhost:5000", true),
            ("127.0.0.1:80", true),
            ("[::1]:5000", true),
            ("127.1.2.3", true),
            ("10.0.0.1:5000", false),
            ("localhost.example.com", false),
        ] {
            let found = origin(host, &Settings::default());
            assert_eq!(found.plain.is_some(), plain, "{host}");
        }
        let insecure = Registry {
            insecure: true,
            ..Registry::default()
        };
        settings.registries.insert("r.example".to_owned(), insecure);
        let found = origin("r.example", &settings);
        assert_eq!(found.plain.unwrap(), "http://r.example");
        let mirror = &endpoints(&"debian".parse().unwrap(), &settings, None)[0];
        assert_eq!(mirror.registry, "m:5000");
    }
}
