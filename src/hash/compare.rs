//! Two sets of files side by side: what differs, and what that does to which hash.

use std::collections::BTreeSet;

use serde_json::Value;

use super::listing::{Entry, Listing};
use super::subject::{Source, Subject};
use crate::image::Image;
use crate::layers::shown;

/// What differs at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Only the first has it.
    OnlyFirst,
    /// Only the second has it.
    OnlySecond,
    /// It is of another kind or has other content.
    Content,
    /// Owner or permissions, in words.
    Attributes(String),
}

/// What there is to say about two subjects.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Both have the same paths with the same content.
    pub same: bool,
    /// Path by path; nothing about times.
    pub differences: Vec<(String, Difference)>,
    /// Paths of which only the time differs.
    pub times: usize,
    /// What follows from it, in sentences.
    pub reasons: Vec<String>,
}

/// Compares two subjects.
pub fn compare(a: &Subject, b: &Subject) -> Comparison {
    let mut comparison = files(&a.listing, &b.listing);
    let said = match (&a.source, &b.source) {
        (Source::Image(a), Source::Image(b)) => images(a, b, &comparison),
        (Source::Layer(a), Source::Layer(b)) if a == b => {
            vec!["They are the same layer: one digest, one archive.".to_owned()]
        }
        (Source::Layer(_), Source::Layer(_)) => {
            vec![archives("The layers' digests differ", &comparison)]
        }
        _ => vec![plain(&comparison)],
    };
    comparison.reasons = said;
    comparison
}

fn files(a: &Listing, b: &Listing) -> Comparison {
    let paths: BTreeSet<&Vec<u8>> = a.0.keys().chain(b.0.keys()).collect();
    let (mut differences, mut times, mut same) = (Vec::new(), 0, true);
    for path in paths {
        let difference = match (a.0.get(path), b.0.get(path)) {
            (Some(_), None) => Difference::OnlyFirst,
            (None, _) => Difference::OnlySecond,
            (Some(a), Some(b)) if (a.kind, a.content) != (b.kind, b.content) => Difference::Content,
            (Some(a), Some(b)) => match attributes(a, b) {
                Some(text) => Difference::Attributes(text),
                None => {
                    times += usize::from(a.modified != b.modified);
                    continue;
                }
            },
        };
        same &= matches!(difference, Difference::Attributes(_));
        differences.push((shown(path), difference));
    }
    Comparison {
        same,
        differences,
        times,
        reasons: Vec::new(),
    }
}

fn attributes(a: &Entry, b: &Entry) -> Option<String> {
    let mut words = Vec::new();
    if a.mode != b.mode {
        words.push(format!("permissions {:04o} and {:04o}", a.mode, b.mode));
    }
    if a.owner != b.owner {
        words.push(format!(
            "owner {}:{} and {}:{}",
            a.owner.0, a.owner.1, b.owner.0, b.owner.1
        ));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

fn plain(comparison: &Comparison) -> String {
    match comparison.same {
        true => "The content hashes are equal: same paths, same content.".to_owned(),
        false => "The content hashes differ, because paths or contents do.".to_owned(),
    }
}

/// Why archives with these files have other digests.
fn archives(what: &str, comparison: &Comparison) -> String {
    let attributes = comparison.differences.len();
    let cause = match (comparison.same, attributes, comparison.times) {
        (false, _, _) => "because paths or contents do".to_owned(),
        (true, 0, 0) => {
            "though every file is alike: the archives were written in another order or form"
                .to_owned()
        }
        (true, 0, times) => {
            format!("only because times do (of {times} paths): a layer's digest covers them")
        }
        (true, some, times) => format!(
            "because owners or permissions of {some} paths and the times of {times} do: a layer's digest covers them"
        ),
    };
    format!("{what}, {cause}.")
}

fn images(a: &Image, b: &Image, comparison: &Comparison) -> Vec<String> {
    if a.id == b.id {
        return vec![
            "They are the same image: one id, so one configuration and the same layers.".to_owned(),
        ];
    }
    let mut said = vec![plain(comparison)];
    let common = a
        .layers
        .iter()
        .zip(&b.layers)
        .take_while(|(a, b)| a == b)
        .count();
    let (most, least) = (
        a.layers.len().max(b.layers.len()),
        a.layers.len().min(b.layers.len()),
    );
    if common == most {
        said.push("Every layer is the same to the byte.".to_owned());
    } else if common == least {
        said.push(format!(
            "One is the other's first {common} layers with {} more on top.",
            most - least
        ));
    } else {
        let what = format!(
            "The first {common} layers are the same; from layer {} on the digests differ",
            common + 1
        );
        said.push(archives(&what, comparison));
    }
    let settings = settings(a, b);
    if !settings.is_empty() {
        said.push(format!(
            "An image's id is the digest of its configuration, and there these differ: {}.",
            settings.join(", ")
        ));
    }
    said
}

/// The names of what differs in two configurations.
fn settings(a: &Image, b: &Image) -> Vec<String> {
    let read =
        |image: &Image| -> Value { serde_json::from_slice(&image.raw_config).unwrap_or_default() };
    let (a, b) = (read(a), read(b));
    let mut names = BTreeSet::new();
    keys(&a, &b, "", &mut names);
    if let (Some(a), Some(b)) = (a.get("config"), b.get("config")) {
        names.remove("config");
        keys(a, b, "config.", &mut names);
    }
    names.into_iter().collect()
}

fn keys(a: &Value, b: &Value, prefix: &str, names: &mut BTreeSet<String>) {
    let empty = serde_json::Map::new();
    let (a, b) = (
        a.as_object().unwrap_or(&empty),
        b.as_object().unwrap_or(&empty),
    );
    for key in a.keys().chain(b.keys()) {
        if a.get(key) != b.get(key) {
            names.insert(format!("{prefix}{}", shown(key.as_bytes())));
        }
    }
}
