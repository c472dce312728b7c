//! What a client asks, taken apart and within bounds.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::upload::{BodyReader, Upload};
use super::watch::Peer;

/// The largest JSON body.
const MAX_JSON: usize = 4 << 20;
/// How long a JSON body may take to arrive.
const JSON_PATIENCE: Duration = Duration::from_secs(60);

/// One request.
#[derive(Debug)]
pub struct Call {
    /// GET, POST, …
    pub method: Method,
    /// The path after the version, decoded.
    pub path: Vec<String>,
    /// The version of the API that the client speaks; the newest where it does not say.
    pub version: (u32, u32),
    /// What came after the question mark.
    pub query: Query,
    /// Headers.
    pub headers: HeaderMap,
    /// The body that follows.
    pub body: Upload,
    /// The connection itself, where the client asks for it.
    pub upgrade: Option<OnUpgrade>,
    /// Who is at the other end.
    pub peer: Peer,
}

/// The parameters of a request.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`.
    pub fn parse(text: &str) -> Self {
        Self(
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// The value of a parameter; none when it is not there or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let own = self
            .0
            .iter()
            .find(|(key, value)| key == name && !value.is_empty());
        own.map(|(_, value)| value.as_str())
    }

    /// All values of a parameter that may occur several times.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let own = self.0.iter().filter(move |(key, _)| key == name);
        own.map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether a parameter is there and not one of docker's words for no.
    pub fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// As [`Query::flag`], with what it is where the client does not say.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| {
            let value = value.trim().to_ascii_lowercase();
            !matches!(value.as_str(), "0" | "no" | "false" | "none")
        })
    }

    /// A number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            let wrong = |_| ApiError::bad(format!("invalid number {text:?} for {name}"));
            text.parse().map_err(wrong)
        };
        self.get(name).map(parse).transpose()
    }
}

impl Call {
    /// Takes a request apart.
    pub fn new(mut request: Request<Incoming>, peer: Peer) -> Result<Self, ApiError> {
        let wants_upgrade = request.headers().contains_key(UPGRADE);
        let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let segments = parts
            .uri
            .path()
            .split('/')
            .skip(1)
            .filter(|s| !s.is_empty());
        let decode = |segment: &str| {
            let text = percent_decode_str(segment).decode_utf8();
            text.map(|text| text.into_owned())
                .map_err(|_| ApiError::bad("the path is not UTF-8"))
        };
        let mut path = segments.map(decode).collect::<Result<Vec<_>, _>>()?;
        let version = match path.first().and_then(|first| version(first)) {
            Some(version) => {
                path.remove(0);
                check_version(version)?;
                version
            }
            None => super::API_VERSION,
        };
        Ok(Self {
            method: parts.method,
            path,
            version,
            query: Query::parse(parts.uri.query().unwrap_or_default()),
            headers: parts.headers,
            body: body.into(),
            upgrade,
            peer,
        })
    }

    /// The body as JSON; what is empty or `null` is the default.
    pub async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, ApiError> {
        let text = self.small_body().await?;
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(T::default());
        }
        let parsed: Option<T> = serde_json::from_slice(&text)
            .map_err(|error| ApiError::bad(format!("invalid JSON: {error}")))?;
        Ok(parsed.unwrap_or_default())
    }

    /// A body that is not long.
    pub async fn small_body(&mut self) -> Result<Bytes, ApiError> {
        let whole = Limited::new(&mut self.body, MAX_JSON).collect();
        match tokio::time::timeout(JSON_PATIENCE, whole).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) => Err(ApiError::bad(format!(
                "reading the request's body: {error}"
            ))),
            Err(_) => Err(ApiError::new(
                hyper::StatusCode::REQUEST_TIMEOUT,
                "the request's body did not arrive in time",
            )),
        }
    }

    /// The body for code that reads, in a thread that may wait.
    pub fn reader(self) -> BodyReader {
        self.body.reader()
    }
}

/// `v1.43` in a path.
fn version(segment: &str) -> Option<(u32, u32)> {
    let (major, minor) = segment.strip_prefix('v')?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn check_version(version: (u32, u32)) -> Result<(), ApiError> {
    let (newest, oldest) = (super::API_VERSION, super::MIN_API_VERSION);
    let text = |(major, minor)| format!("{major}.{minor}");
    if version > newest {
        return Err(ApiError::bad(format!(
            "client version {} is too new. Maximum supported API version is {}",
            text(version),
            text(newest)
        )));
    }
    if version < oldest {
        return Err(ApiError::bad(format!(
            "client version {} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            text(version),
            text(oldest)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_dockers() {
        let query = Query::parse("a=1&b=0&c=False&d&e=x%2Fy&n=12&names=p&names=q");
        assert!(query.flag("a") && !query.flag("b") && !query.flag("c") && !query.flag("d"));
        assert!(query.flag_or("z", true));
        assert_eq!(query.get("e"), Some("x/y"));
        assert_eq!(query.number::<i64>("n").unwrap(), Some(12));
        assert!(query.number::<u16>("e").is_err());
        assert_eq!(query.all("names").collect::<Vec<_>>(), ["p", "q"]);
    }

    #[test]
    fn versions_are_told_from_names() {
        assert_eq!(version("v1.43"), Some((1, 43)));
        for other in ["version", "v1", "1.43", "vx.y"] {
            assert_eq!(version(other), None, "{other}");
        }
        assert!(check_version((1, 43)).is_ok());
        assert!(check_version((1, 99)).is_err() && check_version((1, 12)).is_err());
    }
}
