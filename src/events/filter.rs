//! `--filter` of `events`: values of one key are alternatives, keys are conditions.

use std::collections::BTreeMap;

use super::Event;

/// Keys that there are.
const KEYS: [&str; 11] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "plugin",
    "scope",
    "type",
    "volume",
];

/// A filter that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// Not `KEY=VALUE`.
    #[error("invalid filter {0:?}, use KEY=VALUE")]
    Form(String),
    /// An unknown key.
    #[error(
        "invalid filter {0:?}, use container, event, image, label, network, scope, type or volume"
    )]
    Key(String),
}

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    wanted: BTreeMap<String, Vec<String>>,
}

impl Filter {
    /// Reads `KEY=VALUE` filters.
    pub fn parse(filters: &[String]) -> Result<Self, InvalidFilter> {
        let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for filter in filters {
            let (key, value) = filter
                .split_once('=')
                .ok_or_else(|| InvalidFilter::Form(filter.clone()))?;
            let key = key.trim().to_lowercase();
            if !KEYS.contains(&key.as_str()) {
                return Err(InvalidFilter::Key(key));
            }
            wanted.entry(key).or_default().push(value.trim().to_owned());
        }
        Ok(Self { wanted })
    }

    /// Whether the event is wanted.
    pub fn matches(&self, event: &Event) -> bool {
        self.wanted.iter().all(|(key, values)| match key.as_str() {
            // All of several labels.
            "label" => values.iter().all(|label| has_label(event, label)),
            key => values.iter().any(|value| one(event, key, value)),
        })
    }
}

fn one(event: &Event, key: &str, value: &str) -> bool {
    let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
    match key {
        // `health_status` stands for all of them, as does `exec_start`.
        "event" => {
            event.action == value
                || event
                    .action
                    .split(':')
                    .next()
                    .is_some_and(|action| action == value)
        }
        "type" => event.kind == value,
        "scope" => value == "local",
        "image" => {
            let name = match event.kind.as_str() {
                "image" => Some(event.actor.as_str()),
                _ => attribute("image"),
            };
            let bare = |name: &str| name.split(':').next() == Some(value);
            name == Some(value)
                || name.is_some_and(bare)
                || attribute("name") == Some(value) && event.kind == "image"
        }
        kind => {
            event.kind == kind
                && (event.actor == value
                    || attribute("name") == Some(value)
                    || value.len() >= 4 && event.actor.starts_with(value))
        }
    }
}

fn has_label(event: &Event, label: &str) -> bool {
    match label.split_once('=') {
        Some((name, value)) => event.attributes.get(name).is_some_and(|own| own == value),
        None => event.attributes.contains_key(label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_work_as_dockers() {
        let attributes = [("image", "busybox:1"), ("name", "web"), ("tier", "front")];
        let event = Event {
            id: 1,
            time: 0,
            kind: "container".into(),
            action: "health_status: healthy".into(),
            actor: "abcdef".into(),
            attributes: attributes.map(|(k, v)| (k.into(), v.into())).into(),
        };
        let matches = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|&f| f.to_owned()).collect();
            Filter::parse(&filters).unwrap().matches(&event)
        };
        for good in [
            &[][..],
            &["type=container", "event=health_status"],
            &["event=die", "event=health_status: healthy"],
            &["container=web"],
            &["container=abcd"],
            &["image=busybox"],
            &["label=tier", "label=tier=front"],
        ] {
            assert!(matches(good), "{good:?}");
        }
        for bad in [
            &["type=image"][..],
            &["event=die"],
            &["container=db"],
            &["container=web", "image=debian"],
            &["label=tier", "label=other"],
            &["volume=web"],
        ] {
            assert!(!matches(bad), "{bad:?}");
        }
        assert!(Filter::parse(&["web".into()]).is_err());
        assert!(Filter::parse(&["colour=red".into()]).is_err());
    }
}
