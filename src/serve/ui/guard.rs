//! Who may ask: somebody who knows the token, from the page itself.
//!
//! Other pages that the same browser has open can send requests to this machine too, and a name
//! of theirs can be made to lead here. They do not know the token, cannot add the header that
//! carries it, and come with a host or an origin of their own.

use std::io;

use hyper::header::{HOST, ORIGIN};
use hyper::{Request, StatusCode};
use sha2::{Digest, Sha256};

use super::super::error::ApiError;
use super::super::request::Query;
use crate::container::id;

/// The header that carries the token.
const HEADER: &str = "x-hull-token";

/// What is asked of a request.
#[derive(Debug)]
pub struct Guard {
    token: String,
    hosts: [String; 2],
}

impl Guard {
    /// With a new token.
    pub fn new(port: u16) -> io::Result<Self> {
        let token = id::generate().map_err(io::Error::other)?;
        let hosts = ["127.0.0.1", "localhost"].map(|name| format!("{name}:{port}"));
        Ok(Self { token, hosts })
    }

    /// The page's address.
    pub fn address(&self) -> String {
        format!("http://{}/?token={}", self.hosts[0], self.token)
    }

    /// Refuses what does not come from the page.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), ApiError> {
        let refuse = |why: &str| Err(ApiError::new(StatusCode::FORBIDDEN, why));
        let headers = request.headers();
        let text = |name| {
            headers
                .get(name)
                .map(|value: &hyper::header::HeaderValue| value.to_str().unwrap_or_default())
        };
        if !text(HOST).is_some_and(|host| self.hosts.iter().any(|own| own == host)) {
            return refuse("this is for 127.0.0.1 alone");
        }
        if let Some(origin) = text(ORIGIN)
            && !self
                .hosts
                .iter()
                .any(|own| origin.strip_prefix("http://") == Some(own))
        {
            return refuse("another page may not ask this");
        }
        // The page itself is opened by its address; everything else comes from its script.
        let asked = match request.uri().path() {
            "/" => {
                let query = Query::parse(request.uri().query().unwrap_or_default());
                query.get("token").unwrap_or_default().to_owned()
            }
            _ => headers
                .get(HEADER)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
        };
        // Digests are compared, so that how long it takes says nothing about the token.
        if Sha256::digest(asked) != Sha256::digest(&self.token) {
            return refuse("the token is missing or wrong, use the address that hull ui printed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_page_itself_may_ask() {
        let guard = Guard::new(4000).unwrap();
        let token = guard.token.clone();
        let ask = |path: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri(path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            guard.check(&request.body(()).unwrap()).is_ok()
        };
        let host = ("host", "127.0.0.1:4000");
        let page = format!("/?token={token}");
        assert!(ask(&page, &[host]));
        assert!(ask("/api/x", &[host, (HEADER, &token)]));
        assert!(ask(
            "/api/x",
            &[
                ("host", "localhost:4000"),
                (HEADER, &token),
                ("origin", "http://localhost:4000")
            ]
        ));
        assert!(!ask("/", &[host]));
        assert!(!ask("/?token=", &[host]));
        assert!(!ask("/?token=0", &[host]));
        assert!(!ask(&format!("/api/x?token={token}"), &[host]));
        assert!(!ask(&page, &[]));
        for other in [
            "evil.example:4000",
            "127.0.0.1:4001",
            "127.0.0.1",
            "127.0.0.1:4000.evil.example",
        ] {
            assert!(!ask(&page, &[("host", other)]), "{other}");
            assert!(
                !ask(
                    "/api/x",
                    &[
                        host,
                        (HEADER, &token),
                        ("origin", &format!("http://{other}"))
                    ]
                ),
                "{other}"
            );
        }
        assert!(!ask(
            "/api/x",
            &[host, (HEADER, &token), ("origin", "null")]
        ));
        assert!(!ask(
            "/api/x",
            &[host, (HEADER, &token), ("origin", "https://127.0.0.1:4000")]
        ));
    }
}
