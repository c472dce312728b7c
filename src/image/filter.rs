//! `--filter` of `images` and `image prune`.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::digest::Digest;
use super::error::ImageError;
use super::local::{self, Image};
use super::reference::Reference;
use crate::store::Store;

/// Conditions that an image must meet: one of each kind's values, except labels, all of which.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    dangling: Option<bool>,
    labels: Vec<(String, Option<String>)>,
    not_labels: Vec<(String, Option<String>)>,
    references: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Filter {
    /// Reads `KEY=VALUE` filters, of which the command knows those in `known`.
    pub fn parse(store: &Store, filters: &[String], known: &[&str]) -> Result<Self, ImageError> {
        let mut parsed = Self::default();
        for filter in filters {
            let bad =
                |problem: &str| ImageError::Usage(format!("invalid filter '{filter}'{problem}"));
            let (key, value) = filter
                .split_once('=')
                .ok_or_else(|| bad(": it must be KEY=VALUE"))?;
            let (key, value) = (key.trim().to_lowercase(), value.trim());
            if !known.contains(&key.as_str()) {
                return Err(ImageError::Usage(format!("invalid filter '{key}'")));
            }
            let label = || {
                let (name, wanted) = match value.split_once('=') {
                    Some((name, wanted)) => (name, Some(wanted.to_owned())),
                    None => (value, None),
                };
                (name.to_owned(), wanted)
            };
            let created = || -> Result<Option<Timestamp>, ImageError> {
                Ok(created(&local::get(store, value, None)?))
            };
            match key.as_str() {
                "dangling" => {
                    parsed.dangling = Some(match value {
                        "true" | "1" | "t" | "T" | "True" | "TRUE" => true,
                        "false" | "0" | "f" | "F" | "False" | "FALSE" => false,
                        _ => return Err(bad(": it is true or false")),
                    });
                }
                "label" => parsed.labels.push(label()),
                "label!" => parsed.not_labels.push(label()),
                "reference" => parsed.references.push(value.to_owned()),
                "before" => parsed.before = created()?,
                "since" => parsed.since = created()?,
                _ => parsed.until = Some(instant(value).ok_or_else(|| bad(": no such time"))?),
            }
        }
        Ok(parsed)
    }

    /// Adds a pattern that names must match.
    pub fn add_reference(&mut self, pattern: &str) {
        self.references.push(pattern.to_owned());
    }

    /// Whether `dangling` was asked for, and how.
    pub fn dangling(&self) -> Option<bool> {
        self.dangling
    }

    /// Whether the image meets every condition but those on names.
    pub fn matches(&self, image: &Image) -> bool {
        let created = created(image).unwrap_or(Timestamp::MIN);
        let has = |(name, wanted): &(String, Option<String>)| {
            let found = label(image, name);
            found.is_some()
                && wanted
                    .as_deref()
                    .is_none_or(|it| found.as_deref() == Some(it))
        };
        self.dangling
            .is_none_or(|wanted| wanted == image.names.is_empty())
            && self.labels.iter().all(has)
            && !self.not_labels.iter().any(has)
            && self.before.is_none_or(|limit| created < limit)
            && self.since.is_none_or(|limit| created > limit)
            && self.until.is_none_or(|limit| created < limit)
    }

    /// Whether names matter.
    pub fn has_references(&self) -> bool {
        !self.references.is_empty()
    }

    /// Whether a familiar name with tag or digest matches.
    pub fn matches_name(&self, name: &str) -> bool {
        if self.references.is_empty() {
            return true;
        }
        let Ok(reference) = name.parse::<Reference>() else {
            return false;
        };
        let short = reference.familiar_name();
        self.references.iter().any(|pattern| {
            let literal = pattern.parse::<Reference>().map(|it| it.to_string());
            let pattern = literal.as_deref().unwrap_or(pattern);
            glob(pattern, name) || glob(pattern, &short)
        })
    }
}

/// Images that are the same for everybody have a time in or before 1980, and tell nothing by it.
const SAYS_NOTHING: i64 = 315_619_200;

/// When the image was built, as far as it says, or else when it came here.
pub fn created(image: &Image) -> Option<Timestamp> {
    let said: Option<Timestamp> = image.created.as_deref().and_then(|text| text.parse().ok());
    match said {
        Some(time) if time.as_second() <= SAYS_NOTHING => Timestamp::from_second(image.stored).ok(),
        said => said,
    }
}

/// A label of the image.
fn label(image: &Image, name: &str) -> Option<String> {
    let config: Value = serde_json::from_slice(&image.raw_config).ok()?;
    config
        .get("config")?
        .get("Labels")?
        .get(name)?
        .as_str()
        .map(str::to_owned)
}

/// An instant: RFC 3339, seconds since 1970, a date, or a span before now as in `24h`.
fn instant(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok();
    }
    if let Ok(span) = text.parse::<SignedDuration>() {
        return Timestamp::now().checked_sub(span).ok();
    }
    let local = |text: &str| {
        let time: jiff::civil::DateTime = text.parse().ok()?;
        jiff::tz::TimeZone::system().to_timestamp(time).ok()
    };
    text.parse().ok().or_else(|| local(text))
}

/// The images that a filter lets through; steps of builds only with `all`.
pub fn shown(store: &Store, filter: &Filter, all: bool) -> Result<Vec<Image>, ImageError> {
    let parents: BTreeSet<Digest> = store.parents()?.into_values().collect();
    let mut images = local::list(store)?;
    images.retain(|image| {
        let nameless = image.names.is_empty() && image.digests.is_empty();
        (all || !nameless || !parents.contains(&image.id)) && filter.matches(image)
    });
    Ok(images)
}

/// Shell patterns as in Go's `path.Match`: `*` and `?` stop at slashes, `[…]` is a choice.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    // Where to go on after a mismatch: the last star, and what it has swallowed.
    let (mut at, mut on, mut star) = (0, 0, None);
    while on < text.len() {
        let step = match pattern.get(at) {
            Some('*') => {
                star = Some((at, on));
                at += 1;
                continue;
            }
            Some(_) => matches_one(&pattern, at, text[on]),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => (at, on) = (next, on + 1),
            (None, Some((star_at, star_on))) if text[star_on] != '/' => {
                star = Some((star_at, star_on + 1));
                (at, on) = (star_at + 1, star_on + 1);
            }
            _ => return false,
        }
    }
    pattern[at..].iter().all(|&character| character == '*')
}

/// Whether the pattern's one-character piece at `at` matches, and where the next piece begins.
fn matches_one(pattern: &[char], at: usize, character: char) -> Option<usize> {
    match pattern.get(at)? {
        '?' => (character != '/').then_some(at + 1),
        '\\' => (*pattern.get(at + 1)? == character).then_some(at + 2),
        '[' => {
            let end = at + 1 + pattern.get(at + 1..)?.iter().position(|&c| c == ']')?;
            let mut choices = pattern.get(at + 1..end)?;
            let negated = choices.first() == Some(&'^');
            if negated {
                choices = choices.get(1..)?;
            }
            let mut found = false;
            while let Some(&low) = choices.first() {
                let is_range = choices.get(1) == Some(&'-') && choices.len() > 2;
                let high = if is_range { *choices.get(2)? } else { low };
                found |= (low..=high).contains(&character);
                choices = choices.get(if is_range { 3 } else { 1 }..)?;
            }
            (found != negated).then_some(end + 1)
        }
        &literal => (literal == character).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, text, expected) in [
            ("debian", "debian", true),
            ("deb*", "debian:12", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("*:1?", "debian:12", true),
            ("d[a-f]bian", "debian", true),
            ("d[^a-f]bian", "debian", false),
            ("*a*b*c", "xaxbxc", true),
            ("*a*b*c", "xaxbx", false),
            ("a\\*", "a*", true),
            ("[", "[", false),
            ("", "", true),
            ("", "a", false),
            ("**", "abc", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn names_match_with_and_without_their_tag() {
        let mut filter = Filter::default();
        filter.add_reference("debian");
        filter.add_reference("*/x:1*");
        for (name, expected) in [
            ("debian:12", true),
            (
                "debian@sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1",
                true,
            ),
            ("a/x:1.2", true),
            ("a/x:2", false),
            ("ubuntu:12", false),
        ] {
            assert_eq!(filter.matches_name(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn patterns_never_panic(pattern in "[a*?\\[\\]^\\\\/-]{0,12}", text in "[a/-]{0,12}") {
            let _ = glob(&pattern, &text);
        }
    }
}
