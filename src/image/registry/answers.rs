//! What a registry answered, and the errors that unexpected answers stand for.

use reqwest::{Response, StatusCode};

use super::RegistryError;
use super::session::Session;
use crate::image::digest::Digest;

/// How much of an error page is read.
const MESSAGE_LIMIT: u64 = 64 << 10;

impl Session {
    /// The response, if it has this status.
    pub(super) async fn expect(
        &self,
        response: Response,
        what: &str,
        status: StatusCode,
    ) -> Result<Response, RegistryError> {
        if response.status() == status {
            return Ok(response);
        }
        Err(self.failure(response, what).await)
    }

    /// The error that an unexpected response stands for.
    pub(super) async fn failure(&self, response: Response, what: &str) -> RegistryError {
        let status = response.status();
        let message = self.body_message(response).await;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.denied(message),
            StatusCode::TOO_MANY_REQUESTS => RegistryError::TooManyRequests { message },
            _ => RegistryError::Status {
                endpoint: self.base().to_owned(),
                what: what.to_owned(),
                status: status.as_u16(),
                message,
            },
        }
    }

    pub(super) async fn body_message(&self, response: Response) -> String {
        let reason = response
            .status()
            .canonical_reason()
            .unwrap_or("no reason given");
        match self.read(response, "an error", MESSAGE_LIMIT).await {
            Ok(body) if !message(&body).is_empty() => message(&body),
            _ => reason.to_lowercase(),
        }
    }

    pub(super) async fn read(
        &self,
        mut response: Response,
        what: &str,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unreachable(&e))? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > limit {
                return Err(RegistryError::TooLarge {
                    endpoint: self.base().to_owned(),
                    what: what.to_owned(),
                    limit,
                });
            }
        }
        Ok(body)
    }

    pub(super) fn unreachable(&self, error: &reqwest::Error) -> RegistryError {
        RegistryError::Unreachable {
            endpoint: self.base().to_owned(),
            reason: reason(error),
        }
    }

    pub(super) fn protocol(&self, problem: String) -> RegistryError {
        RegistryError::Protocol {
            endpoint: self.base().to_owned(),
            problem,
        }
    }

    pub(super) fn blob_unknown(&self, digest: &Digest) -> RegistryError {
        RegistryError::BlobUnknown {
            endpoint: self.base().to_owned(),
            digest: *digest,
        }
    }

    pub(super) fn denied(&self, message: String) -> RegistryError {
        RegistryError::Denied {
            action: self.access.verb(),
            repository: self.familiar.clone(),
            message,
        }
    }
}

/// What went wrong on the way, without the address, which the message names anyway.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The message in an error body of the distribution protocol, or the body itself when it is one
/// short line of text.
pub(super) fn message(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let of = |value: &serde_json::Value| {
        let text = ["message", "details", "code"]
            .iter()
            .find_map(|key| value.get(key)?.as_str());
        text.map(str::to_owned)
    };
    let found = json
        .get("errors")
        .and_then(|errors| of(errors.get(0)?))
        .or_else(|| of(&json));
    let text = found.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body).trim().to_owned();
        if text.len() < 200 && !text.contains(['<', '\n', '{']) {
            text
        } else {
            String::new()
        }
    });
    text.chars()
        .filter(|character| !character.is_control())
        .take(400)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_in_what_registries_say() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no","detail":{}}]}"#,
                "no",
            ),
            (r#"{"errors":[{"code":"DENIED"}]}"#, "DENIED"),
            (
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            ("plain text\n", "plain text"),
            ("<html>502</html>", ""),
            (r#"{"errors":[]}"#, ""),
            ("\u{1b}[31mred", "[31mred"),
        ] {
            assert_eq!(message(body.as_bytes()), expected);
        }
        assert_eq!(message(&[0xff; 500]), "");
    }
}
