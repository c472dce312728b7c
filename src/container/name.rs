//! Container names: what is allowed, and the ones hull makes up.

use std::io;

use super::id::random_bytes;

/// Why a name cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed and at least two characters"
)]
pub struct InvalidName(String);

const ADJECTIVES: [&str; 32] = [
    "amber", "brisk", "calm", "clever", "cosy", "crisp", "eager", "fair", "fleet", "fond",
    "gentle", "glad", "grand", "happy", "honest", "humble", "jolly", "keen", "kind", "lively",
    "lucid", "mellow", "merry", "neat", "noble", "proud", "quick", "quiet", "sunny", "swift",
    "warm", "wise",
];

const BOATS: [&str; 32] = [
    "barge", "brig", "canoe", "catboat", "clipper", "cog", "coracle", "cutter", "dhow", "dinghy",
    "dory", "ferry", "frigate", "galley", "gig", "hoy", "junk", "kayak", "ketch", "lugger",
    "pinnace", "pram", "punt", "raft", "schooner", "skiff", "sloop", "tender", "trawler", "tug",
    "wherry", "yawl",
];

/// Checks a name a user gave; a leading slash is docker's older spelling and is dropped.
pub fn validate(name: &str) -> Result<String, InvalidName> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes
        .clone()
        .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest && (2..=128).contains(&bare.len()) {
        Ok(bare.to_owned())
    } else {
        Err(InvalidName(name.chars().take(140).collect()))
    }
}

/// A made-up name such as `swift_sloop_4f`.
pub fn generate() -> io::Result<String> {
    let [a, b, c, d] = random_bytes::<4>()?;
    let adjective = ADJECTIVES[usize::from(a) % ADJECTIVES.len()];
    let boat = BOATS[usize::from(b) % BOATS.len()];
    Ok(format!("{adjective}_{boat}_{c:02x}{d:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web", "a1", "/web", "a_b.c-d", "0x"] {
            assert!(validate(good).is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in [
            "",
            "a",
            "-a",
            ".hidden",
            "a b",
            "a/b",
            "ünder",
            "//a",
            long.as_str(),
        ] {
            assert!(validate(bad).is_err(), "{bad}");
        }
        assert!(validate(&generate().unwrap()).is_ok());
    }
}
