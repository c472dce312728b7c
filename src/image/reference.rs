//! Image references as docker writes them: `debian`, `user/name:tag`,
//! `host:port/name@sha256:…`.
//!
//! A reference has a short, familiar form for people (`debian:12`) and a canonical one for
//! registries and the store (`docker.io/library/debian:12`). Parsing is by hand rather than by
//! regular expressions: compiling those would cost every start of hull more than the rest of
//! its command line does. Property tests hold it against oci-spec's parser.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;

/// The registry that a name without one means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag that a name without one means.
pub const DEFAULT_TAG: &str = "latest";

const OFFICIAL: &str = "library/";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// The name of an image, at a registry or in the local store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference; the wording is docker's, which scripts look for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// It fits the grammar nowhere.
    #[error("invalid reference format")]
    Format,
    /// Upper-case letters in the repository.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// 64 hexadecimal digits, which could not be told from an image's identifier.
    #[error(
        "invalid reference format: invalid repository name ({0}), cannot specify 64-byte \
         hexadecimal strings"
    )]
    Hexadecimal(String),
    /// Longer than registries take.
    #[error(
        "invalid reference format: repository name must not be more than {NAME_MAX} characters"
    )]
    TooLong,
    /// A digest of another algorithm than SHA-256.
    #[error("invalid reference format: unsupported digest algorithm")]
    Algorithm,
}

impl Reference {
    /// The registry's name: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository at the registry: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if the reference names one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference names one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same reference, with `latest` where it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository under this digest, without a tag.
    #[must_use]
    pub fn at_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same reference without its digest: what the local name table knows.
    #[must_use]
    pub fn without_digest(&self) -> Self {
        Self {
            digest: None,
            ..self.clone()
        }
    }

    /// Registry and repository as people write them: `debian`, `ghcr.io/a/b`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.canonical_name();
        }
        match self.repository.strip_prefix(OFFICIAL) {
            Some(official) if !official.contains('/') => official.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// Registry and repository in full: `docker.io/library/debian`.
    pub fn canonical_name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The whole reference in full: `docker.io/library/debian:12`.
    pub fn canonical(&self) -> String {
        self.canonical_name() + &self.suffix()
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}"));
        let digest = self.digest.map(|digest| format!("@{digest}"));
        tag.unwrap_or_default() + &digest.unwrap_or_default()
    }
}

impl fmt::Display for Reference {
    /// The familiar form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.familiar_name(), self.suffix())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Hexadecimal(text.to_owned()));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(name);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            let official = registry == DEFAULT_REGISTRY && !path.contains('/');
            let prefix = if official { OFFICIAL } else { "" };
            return Err(ReferenceError::Uppercase(format!("{prefix}{path}")));
        }
        let valid =
            is_registry(registry) && path.split('/').all(is_component) && tag.is_none_or(is_tag);
        if !valid {
            return Err(ReferenceError::Format);
        }
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        if repository.len() > NAME_MAX {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    match text.split_once(':') {
        Some(("sha256", _)) => text.parse().map_err(|_| ReferenceError::Format),
        Some((algorithm, hex)) if is_component(algorithm) && hex.len() >= 32 => {
            Err(ReferenceError::Algorithm)
        }
        _ => Err(ReferenceError::Format),
    }
}

/// The registry and what follows it. The first part is a registry when nothing else could look
/// like it: it has a dot, a colon or upper-case letters, or is `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            match first {
                "index.docker.io" | "registry-1.docker.io" => (DEFAULT_REGISTRY, rest),
                _ => (first, rest),
            }
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_number =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let address = |inner: &str| {
        !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
    };
    let host_is_valid = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inner) => address(inner),
        None => host.split('.').all(label),
    };
    port_is_number && host_is_valid
}

/// Lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(text: &str) -> bool {
    let mut separator = String::new();
    let mut after_word = false;
    for character in text.chars() {
        match character {
            'a'..='z' | '0'..='9' => {
                let joined = matches!(separator.as_str(), "" | "." | "_" | "__")
                    || separator.bytes().all(|b| b == b'-');
                if !joined {
                    return false;
                }
                separator.clear();
                after_word = true;
            }
            '.' | '_' | '-' if after_word => separator.push(character),
            _ => return false,
        }
    }
    after_word && separator.is_empty()
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1";

    fn parse(text: &str) -> Result<Reference, ReferenceError> {
        text.parse()
    }

    #[test]
    fn familiar_and_canonical_forms() {
        let at = format!("@sha256:{HEX}");
        for (text, familiar, canonical) in [
            ("debian", "debian", "docker.io/library/debian"),
            ("debian:12", "debian:12", "docker.io/library/debian:12"),
            ("library/debian", "debian", "docker.io/library/debian"),
            ("docker.io/debian", "debian", "docker.io/library/debian"),
            (
                "index.docker.io/library/debian",
                "debian",
                "docker.io/library/debian",
            ),
            ("user/name", "user/name", "docker.io/user/name"),
            ("library/a/b", "library/a/b", "docker.io/library/a/b"),
            ("localhost/a", "localhost/a", "localhost/a"),
            (
                "localhost:5000/a:b",
                "localhost:5000/a:b",
                "localhost:5000/a:b",
            ),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            (
                "ghcr.io/a/b__c--d.e:V1.0-x",
                "ghcr.io/a/b__c--d.e:V1.0-x",
                "ghcr.io/a/b__c--d.e:V1.0-x",
            ),
            ("Host/a", "Host/a", "Host/a"),
        ] {
            let reference = parse(text).unwrap();
            assert_eq!(reference.to_string(), familiar, "{text}");
            assert_eq!(reference.canonical(), canonical, "{text}");
            let digested = parse(&format!("{text}{at}")).unwrap();
            assert_eq!(digested.to_string(), format!("{familiar}{at}"));
            assert_eq!(digested.without_digest(), reference);
            assert_eq!(digested.digest().unwrap().hex(), HEX);
        }
        assert_eq!(
            parse("debian").unwrap().with_default_tag().to_string(),
            "debian:latest"
        );
        let pinned = parse(&format!("debian{at}")).unwrap();
        assert_eq!(pinned.clone().with_default_tag(), pinned);
    }

    #[test]
    fn malformed_names_are_refused_in_dockers_words() {
        for text in [
            "",
            ":",
            "@",
            "a:",
            ":a",
            "a/",
            "/a",
            "a//b",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "a b",
            "a:b:c",
            "a@b",
            "a@sha256:12",
            "ä",
            "a:é",
            "a\n",
            "[::1/a",
            "h-.x/a",
            "h:x/a",
            "a:-b",
            "http://a/b",
            "a@sha256:",
            "../a",
            "a/../b",
        ] {
            assert_eq!(parse(text), Err(ReferenceError::Format), "{text:?}");
        }
        assert_eq!(
            parse("Debian").unwrap_err().to_string(),
            "invalid reference format: repository name (library/Debian) must be lowercase"
        );
        assert_eq!(parse(HEX), Err(ReferenceError::Hexadecimal(HEX.to_owned())));
        assert_eq!(parse(&"a".repeat(256)), Err(ReferenceError::TooLong));
        assert_eq!(
            parse(&format!("a:{}", "b".repeat(129))),
            Err(ReferenceError::Format)
        );
        let sha512 = format!("a@sha512:{HEX}{HEX}");
        assert_eq!(parse(&sha512), Err(ReferenceError::Algorithm));
    }

    /// oci-spec leaves a few of docker's rules out, so it is the judge only where they agree
    /// to differ from us in nothing.
    fn judge(text: &str) -> Option<(String, String, Option<String>)> {
        let reference = text.parse::<oci_spec::distribution::Reference>().ok()?;
        Some((
            reference.registry().to_owned(),
            reference.repository().to_owned(),
            reference.digest().map(str::to_owned),
        ))
    }

    #[test]
    fn a_hosts_name_has_no_underscore() {
        assert_eq!(parse("0.a_a/a"), Err(ReferenceError::Format));
    }

    proptest! {
        #[test]
        fn agrees_with_oci_spec(
            text in "([a-z0-9.-]{1,8}(:[0-9]{1,4})?/)?[a-z0-9._/-]{1,12}(:[A-Za-z0-9_.-]{1,8})?"
        ) {
            if text.starts_with("registry-1.docker.io/") {
                return Ok(());
            }
            let ours = parse(&text)
                .ok()
                .map(|r| (r.registry.clone(), r.repository.clone(), None::<String>));
            // An underscore in a host's name passes there.
            let judged = judge(&text).filter(|(registry, ..)| is_registry(registry));
            prop_assert_eq!(ours, judged);
        }

        #[test]
        fn printing_and_parsing_are_inverse(
            text in "([a-zA-Z0-9.:-]{1,10}/)?[a-z0-9._/-]{1,16}(:[A-Za-z0-9_.-]{1,8})?"
        ) {
            if let Ok(reference) = parse(&text) {
                prop_assert_eq!(&parse(&reference.to_string()).unwrap(), &reference);
                prop_assert_eq!(&parse(&reference.canonical()).unwrap(), &reference);
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }
    }
}
