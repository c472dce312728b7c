//! Platforms as images name them: operating system, architecture and variant.
//!
//! `linux/arm64/v8`, `arm64` and `aarch64` all mean the same platform. Parsing brings every
//! spelling to one normal form, so that platforms compare and store as plain values, and
//! [`Platform::rank`] orders the entries of a multi-architecture index by how well they fit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image was built for, in normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system; hull runs `linux` only, but an index lists others too.
    pub os: String,
    /// Architecture by its Go name: `amd64`, `arm64`, `arm`, `386`, `ppc64le`, `s390x`, …
    pub architecture: String,
    /// The variant where one tells more than the architecture does: `v7` of `arm`, `v3` of
    /// `amd64`. The baselines `arm64/v8` and `amd64/v1` are stored as none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text names no platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlatformError {
    /// Empty parts, strange characters or more than three parts.
    #[error(
        "{0:?} is not a platform: write os/architecture or os/architecture/variant, \
         as in linux/arm64"
    )]
    Malformed(String),
    /// One word that is neither an architecture nor an operating system.
    #[error("{0:?}: unknown operating system or architecture, write for example linux/arm64")]
    Unknown(String),
}

impl Platform {
    /// The platform with these names, aliases resolved.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = normalize(
            &architecture.to_ascii_lowercase(),
            &variant.unwrap_or_default().to_ascii_lowercase(),
        );
        let os = match os.to_ascii_lowercase().as_str() {
            "" => "linux".to_owned(),
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        Self {
            os,
            architecture,
            variant,
        }
    }

    /// The platform that an image's own configuration names, which may be anything.
    pub fn claimed(
        os: &str,
        architecture: &str,
        variant: Option<&str>,
    ) -> Result<Self, PlatformError> {
        let variant = variant.filter(|variant| !variant.is_empty());
        if [os, architecture].into_iter().chain(variant).all(is_word) {
            return Ok(Self::new(os, architecture, variant));
        }
        let parts: Vec<&str> = [os, architecture].into_iter().chain(variant).collect();
        Err(PlatformError::Malformed(parts.join("/")))
    }

    /// The Linux platform of the machine that hull itself was built for.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// How well an image built for `self` serves someone who asked for `wanted`: 0 is exact,
    /// larger is worse, and none is not at all.
    ///
    /// An older variant of the same architecture serves: `arm/v6` for `arm/v7`, `amd64` for
    /// `amd64/v3`; and the 32-bit sibling serves where the 64-bit one was asked for (`arm` for
    /// `arm64`, `386` for `amd64`), as containerd has it.
    pub fn rank(&self, wanted: &Platform) -> Option<u32> {
        if self.os != wanted.os {
            return None;
        }
        if self.architecture == wanted.architecture {
            if self.variant == wanted.variant {
                return Some(0);
            }
            let (have, want) = (self.level()?, wanted.level()?);
            return want.checked_sub(have);
        }
        match (self.architecture.as_str(), wanted.architecture.as_str()) {
            ("arm", "arm64") => 8_u32.checked_sub(self.level()?).map(|older| older + 100),
            ("386", "amd64") => Some(100),
            _ => None,
        }
    }

    /// Whether an image built for `self` serves someone who asked for `wanted`.
    pub fn serves(&self, wanted: &Platform) -> bool {
        self.rank(wanted).is_some()
    }

    /// The number in the variant, with the baseline's where there is none.
    fn level(&self) -> Option<u32> {
        match (&self.variant, self.architecture.as_str()) {
            (Some(variant), _) => variant.strip_prefix('v')?.parse().ok(),
            (None, "arm64") => Some(8),
            (None, "arm") => Some(7),
            (None, "amd64") => Some(1),
            (None, _) => Some(0),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().copied().all(is_word) {
            return Err(PlatformError::Malformed(text.to_owned()));
        }
        match parts.as_slice() {
            [one] if is_os(one) => Ok(Self::new(one, std::env::consts::ARCH, None)),
            [one] if is_architecture(one) => Ok(Self::new("linux", one, None)),
            [one] => Err(PlatformError::Unknown((*one).to_owned())),
            [first, second] if is_architecture(first) && !is_os(first) => {
                Ok(Self::new("linux", first, Some(second)))
            }
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(PlatformError::Malformed(text.to_owned())),
        }
    }
}

fn is_word(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 64
        && part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn is_os(word: &str) -> bool {
    matches!(
        word.to_ascii_lowercase().as_str(),
        "linux" | "windows" | "darwin" | "macos" | "freebsd" | "netbsd" | "openbsd" | "wasip1"
    )
}

fn is_architecture(word: &str) -> bool {
    const KNOWN: [&str; 14] = [
        "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64",
        "ppc64le", "riscv64", "s390x", "wasm",
    ];
    let (architecture, _) = normalize(&word.to_ascii_lowercase(), "");
    KNOWN.contains(&architecture.as_str())
}

/// The Go name of an architecture and its variant, the baseline variant left out.
fn normalize(architecture: &str, variant: &str) -> (String, Option<String>) {
    let variant = match (variant.strip_prefix('v'), variant) {
        (None, "5" | "6" | "7" | "8" | "9") => format!("v{variant}"),
        _ => variant.to_owned(),
    };
    let (name, variant) = match (architecture, variant.as_str()) {
        ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "") => ("arm", "v7"),
        ("arm", other) => ("arm", other),
        ("armv5" | "armv5l", _) => ("arm", "v5"),
        ("armv6" | "armv6l", _) => ("arm", "v6"),
        ("armv7" | "armv7l", _) => ("arm", "v7"),
        ("powerpc64le" | "ppc64el", other) => ("ppc64le", other),
        ("powerpc64", other) => ("ppc64", other),
        ("riscv64gc", other) => ("riscv64", other),
        ("loongarch64", other) => ("loong64", other),
        (name, other) => (name, other),
    };
    (
        name.to_owned(),
        (!variant.is_empty()).then(|| variant.to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> String {
        text.parse::<Platform>().unwrap().to_string()
    }

    #[test]
    fn every_spelling_has_one_normal_form() {
        for (text, normal) in [
            ("linux/arm64/v8", "linux/arm64"),
            ("arm64", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("LINUX/AArch64", "linux/arm64"),
            ("x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("armhf", "linux/arm/v7"),
            ("armel", "linux/arm/v6"),
            ("arm", "linux/arm/v7"),
            ("arm/v6", "linux/arm/v6"),
            ("linux/arm/6", "linux/arm/v6"),
            ("i386", "linux/386"),
            ("linux/ppc64el", "linux/ppc64le"),
            ("s390x", "linux/s390x"),
            ("riscv64", "linux/riscv64"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert_eq!(parsed(text), normal, "{text}");
        }
        assert_eq!(parsed("linux"), Platform::host().to_string());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "/",
            "linux/",
            "linux//v8",
            "a/b/c/d",
            "linux/arm 64",
            "lin\0ux/arm",
        ] {
            assert!(
                matches!(text.parse::<Platform>(), Err(PlatformError::Malformed(_))),
                "{text:?}"
            );
        }
        assert_eq!(
            "sparkle".parse::<Platform>(),
            Err(PlatformError::Unknown("sparkle".to_owned()))
        );
    }

    #[test]
    fn older_variants_serve_newer_requests_only() {
        let rank = |have: &str, want: &str| {
            have.parse::<Platform>()
                .unwrap()
                .rank(&want.parse().unwrap())
        };
        assert_eq!(rank("arm/v7", "arm/v7"), Some(0));
        assert_eq!(rank("arm/v6", "arm/v7"), Some(1));
        assert_eq!(rank("arm/v5", "arm/v7"), Some(2));
        assert_eq!(rank("arm/v7", "arm/v6"), None);
        assert_eq!(rank("amd64", "amd64/v3"), Some(2));
        assert_eq!(rank("amd64/v3", "amd64"), None);
        assert!(rank("arm/v7", "arm64") > rank("arm64", "arm64"));
        assert!(rank("arm/v7", "arm64") < rank("arm/v6", "arm64"));
        assert_eq!(rank("arm64", "arm"), None);
        assert_eq!(rank("linux/amd64", "windows/amd64"), None);
        assert_eq!(rank("386", "amd64"), Some(100));
        assert_eq!(rank("amd64", "386"), None);
        assert_eq!(rank("linux/amd64/zen", "amd64"), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_printing_is_stable(text in "\\PC{0,24}") {
            if let Ok(platform) = text.parse::<Platform>() {
                let again: Platform = platform.to_string().parse().unwrap();
                prop_assert_eq!(again, platform);
            }
        }
    }
}
