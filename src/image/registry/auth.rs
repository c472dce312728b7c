//! Answering a registry's challenge: basic credentials, or a token from the server it names.

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::credentials::Credentials;

/// What a `401` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token.
    Bearer(TokenServer),
}

/// Where to get a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenServer {
    /// Its address.
    pub realm: String,
    /// For which service.
    pub service: Option<String>,
    /// For which rights.
    pub scope: Option<String>,
}

/// Why no token could be had.
#[derive(Debug)]
pub enum TokenError {
    /// The token server could not be reached.
    Unreachable(String),
    /// It refused, with a status and a message.
    Refused(u16, String),
    /// Its answer makes no sense.
    Malformed(String),
}

/// Tokens are a few kilobytes.
const TOKEN_LIMIT: usize = 1 << 20;

/// The challenge in the headers of a `401`; one for a token wins.
pub fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        let Ok(challenges) = http_auth::parse_challenges(text) else {
            continue;
        };
        for found in challenges {
            if found.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
            if !found.scheme.eq_ignore_ascii_case("bearer") {
                continue;
            }
            let parameter = |name: &str| {
                let found = found
                    .params
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if let Some(realm) = parameter("realm") {
                return Some(Challenge::Bearer(TokenServer {
                    realm,
                    service: parameter("service"),
                    scope: parameter("scope"),
                }));
            }
        }
    }
    basic
}

/// A header value that no debug output shows.
pub fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Gets a token for `scope`, as the user when there are credentials.
pub async fn token(
    http: &reqwest::Client,
    server: &TokenServer,
    scope: &str,
    credentials: &Credentials,
) -> Result<String, TokenError> {
    let address = reqwest::Url::parse(&server.realm)
        .map_err(|error| TokenError::Malformed(format!("realm {:?}: {error}", server.realm)))?;
    if !matches!(address.scheme(), "http" | "https") {
        return Err(TokenError::Malformed(format!(
            "realm {:?} is no web address",
            server.realm
        )));
    }
    let scope = server.scope.as_deref().unwrap_or(scope);
    let request = request(http, address, server.service.as_deref(), scope, credentials);
    let unreachable = |error: reqwest::Error| TokenError::Unreachable(super::causes(&error));
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > TOKEN_LIMIT {
            return Err(TokenError::Malformed(
                "the token server's answer has no end".to_owned(),
            ));
        }
    }
    if !status.is_success() {
        return Err(TokenError::Refused(
            status.as_u16(),
            super::answers::message(&body),
        ));
    }
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    serde_json::from_slice::<Answer>(&body)
        .ok()
        .and_then(|answer| {
            answer
                .token
                .filter(|text| !text.is_empty())
                .or(answer.access_token)
        })
        .ok_or_else(|| TokenError::Malformed("the token server's answer has no token".to_owned()))
}

fn request(
    http: &reqwest::Client,
    mut address: reqwest::Url,
    service: Option<&str>,
    scope: &str,
    credentials: &Credentials,
) -> reqwest::RequestBuilder {
    if let Credentials::Identity(identity) = credentials {
        // The form is encoded like a query, so a copy of the address lends its encoder.
        let mut form = address.clone();
        form.query_pairs_mut()
            .clear()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("client_id", "hull")
            .append_pair("scope", scope)
            .append_pair("refresh_token", identity);
        return http
            .post(address)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.query().unwrap_or_default().to_owned());
    }
    {
        let mut query = address.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for part in scope.split(' ').filter(|part| !part.is_empty()) {
            query.append_pair("scope", part);
        }
    }
    match credentials {
        Credentials::Password(user, password) => http.get(address).basic_auth(user, Some(password)),
        _ => http.get(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn challenges_are_understood() {
        let bearer = r#"Bearer realm="https://a/token",service="r",scope="repository:x:pull""#;
        let expected = Challenge::Bearer(TokenServer {
            realm: "https://a/token".to_owned(),
            service: Some("r".to_owned()),
            scope: Some("repository:x:pull".to_owned()),
        });
        assert_eq!(challenge(&headers(&[bearer])), Some(expected.clone()));
        assert_eq!(
            challenge(&headers(&["Basic realm=\"x\"", bearer])),
            Some(expected)
        );
        assert_eq!(
            challenge(&headers(&["basic realm=\"x\""])),
            Some(Challenge::Basic)
        );
        assert_eq!(challenge(&headers(&["Bearer service=\"x\""])), None);
        assert_eq!(challenge(&headers(&["Negotiate"])), None);
        assert_eq!(challenge(&headers(&[])), None);
    }
}
