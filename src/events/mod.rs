//! What happened: one line per change of a container, image or volume.
//!
//! There is no daemon to keep or to send events, so whoever changes something writes it into a
//! bounded journal in the store, in the same transaction where there is one. Who follows the
//! events waits for that file to change.

mod filter;
mod follow;

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub use filter::{Filter, InvalidFilter};
pub use follow::{FollowError, follow};

use crate::time::rfc3339;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Grows with every event.
    pub id: i64,
    /// Nanoseconds since the epoch.
    pub time: i64,
    /// What kind of thing it happened to: `container`, `image`, `volume`, `network`.
    pub kind: String,
    /// What happened, in docker's words.
    pub action: String,
    /// The thing's id or name.
    pub actor: String,
    /// More about it.
    pub attributes: BTreeMap<String, String>,
}

/// What happened to a container, before the store adds which one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// What happened, in docker's words.
    pub action: String,
    /// More about it.
    pub attributes: BTreeMap<String, String>,
}

impl Note {
    /// An event without attributes of its own.
    pub fn new(action: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            attributes: BTreeMap::new(),
        }
    }

    /// Adds an attribute.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.attributes.insert(name.to_owned(), value.to_string());
        self
    }
}

impl Event {
    /// The fields that templates and `json` have, docker's.
    pub fn value(&self) -> Value {
        let mut value = json!({});
        if matches!(self.kind.as_str(), "container" | "image") {
            value["status"] = self.action.clone().into();
            value["id"] = self.actor.clone().into();
        }
        if self.kind == "container" {
            value["from"] = self.attributes.get("image").cloned().into();
        }
        value["Type"] = self.kind.clone().into();
        value["Action"] = self.action.clone().into();
        value["Actor"] = json!({"ID": self.actor, "Attributes": self.attributes});
        value["scope"] = "local".into();
        value["time"] = self.time.div_euclid(1_000_000_000).into();
        value["timeNano"] = self.time.into();
        value
    }

    /// The line that docker prints.
    pub fn line(&self) -> String {
        let attributes: Vec<String> = self
            .attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let rest = match attributes.is_empty() {
            true => String::new(),
            false => format!(" ({})", attributes.join(", ")),
        };
        let time = rfc3339(self.time);
        format!("{time} {} {} {}{rest}", self.kind, self.action, self.actor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_look_like_dockers() {
        let note = Note::new("die")
            .with("exitCode", 3)
            .with("image", "busybox");
        let event = Event {
            id: 1,
            time: 1_000_000_001,
            kind: "container".into(),
            action: note.action,
            actor: "abc".into(),
            attributes: note.attributes,
        };
        assert_eq!(
            event.line(),
            "1970-01-01T00:00:01.000000001Z container die abc (exitCode=3, image=busybox)"
        );
        let value = event.value();
        assert_eq!(value["status"], "die");
        assert_eq!(value["from"], "busybox");
        assert_eq!(
            (&value["time"], &value["timeNano"]),
            (&json!(1), &json!(1_000_000_001))
        );
    }
}
