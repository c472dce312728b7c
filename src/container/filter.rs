//! `--filter` of `ps` and `container prune`.

use std::mem::discriminant;

use super::health;
use super::lifecycle::{self, LifecycleError};
use super::record::Container;
use super::state::Status;
use crate::store::{Store, StoreError};
use crate::time::parse_time;

/// A filter that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Not `KEY=VALUE`.
    #[error("invalid filter {0:?}, use KEY=VALUE")]
    Form(String),
    /// An unknown key.
    #[error("invalid filter {key:?}, use {}", known.join(", "))]
    Key {
        /// The key.
        key: String,
        /// Those that there are.
        known: &'static [&'static str],
    },
    /// A value that the key does not take.
    #[error("invalid filter {filter:?}: {problem}")]
    Value {
        /// The whole.
        filter: String,
        /// What is wrong.
        problem: String,
    },
    /// The container that `before` or `since` names.
    #[error(transparent)]
    Container(#[from] LifecycleError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keys of `ps`.
pub const OF_PS: &[&str] = &[
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name",
    "network", "publish", "since", "status", "volume",
];

/// Keys of `container prune`.
pub const OF_PRUNE: &[&str] = &["label", "label!", "until"];

/// One `--filter`.
#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Id(String),
    Name(String),
    Label(String),
    NotLabel(String),
    Status(String),
    Exited(i32),
    Ancestor(String),
    Health(String),
    Volume(String),
    /// The containers in a network; none of them is for those without one.
    Network(Option<Vec<String>>),
    Exposed(String),
    Published(String),
    IsTask(bool),
    Before(i64),
    Since(i64),
}

/// Conditions that a container must meet: one of each kind's values, except labels, all of
/// which.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    conditions: Vec<Condition>,
}

impl Filter {
    /// Reads `KEY=VALUE` filters, of which the command knows those in `known`.
    pub fn parse(
        store: &Store,
        filters: &[String],
        known: &'static [&'static str],
    ) -> Result<Self, FilterError> {
        let conditions = filters.iter().map(|filter| {
            let (key, value) = filter
                .split_once('=')
                .ok_or_else(|| FilterError::Form(filter.clone()))?;
            if !known.contains(&key) {
                let key = key.to_owned();
                return Err(FilterError::Key { key, known });
            }
            let created = || Ok(lifecycle::find(store, value)?.created_at);
            let members = || Ok(members_of(store, value)?);
            Condition::parse(filter, key, value, created, members)
        });
        Ok(Self {
            conditions: conditions.collect::<Result<_, _>>()?,
        })
    }

    /// Whether it asks for a state, so that containers that do not run are meant too.
    pub fn is_about_state(&self) -> bool {
        self.conditions
            .iter()
            .any(|c| matches!(c, Condition::Status(_) | Condition::Exited(_)))
    }

    /// Whether the container meets every condition.
    pub fn matches(&self, container: &Container) -> bool {
        self.conditions.iter().all(|condition| {
            let kind = discriminant(condition);
            let mut alike = self.conditions.iter().filter(|c| discriminant(*c) == kind);
            match condition {
                Condition::Label(_) | Condition::NotLabel(_) => condition.holds(container),
                _ => alike.any(|other| other.holds(container)),
            }
        })
    }
}

impl Condition {
    fn parse(
        filter: &str,
        key: &str,
        value: &str,
        created: impl Fn() -> Result<i64, FilterError>,
        members: impl Fn() -> Result<Vec<String>, FilterError>,
    ) -> Result<Self, FilterError> {
        let bad = |problem: &str| FilterError::Value {
            filter: filter.to_owned(),
            problem: problem.to_owned(),
        };
        let owned = value.to_owned();
        Ok(match key {
            "id" => Self::Id(owned),
            "name" => Self::Name(owned),
            "label" => Self::Label(owned),
            "label!" => Self::NotLabel(owned),
            "status" => match value {
                "created" | "running" | "exited" | "paused" | "restarting" | "removing"
                | "dead" => Self::Status(owned),
                _ => return Err(bad(&format!("{value:?} is no state of a container"))),
            },
            "health" => match value {
                "starting" | "healthy" | "unhealthy" | "none" => Self::Health(owned),
                _ => return Err(bad("use starting, healthy, unhealthy or none")),
            },
            "exited" => match value.parse() {
                Ok(code) => Self::Exited(code),
                Err(_) => return Err(bad("an exit code is a number")),
            },
            "volume" => Self::Volume(owned),
            "network" if value == "none" => Self::Network(None),
            "network" => Self::Network(Some(members()?)),
            "expose" => Self::Exposed(with_protocol(value)),
            "publish" => Self::Published(with_protocol(value)),
            "is-task" => match value {
                "true" | "1" => Self::IsTask(true),
                "false" | "0" => Self::IsTask(false),
                _ => return Err(bad("it is true or false")),
            },
            "before" => Self::Before(created()?),
            "since" => Self::Since(created()?),
            "until" => Self::Before(parse_time(value).map_err(|e| bad(&e.to_string()))?),
            _ => Self::Ancestor(owned),
        })
    }

    fn holds(&self, container: &Container) -> bool {
        let (config, state) = (&container.config, &container.state);
        match self {
            Self::Id(id) => container.id.starts_with(id.as_str()),
            Self::Name(name) => container.name.contains(name.trim_start_matches('/')),
            Self::Label(label) => has_label(container, label),
            Self::NotLabel(label) => !has_label(container, label),
            Self::Status(status) => state.status.as_str() == status,
            Self::Exited(code) => state.status == Status::Exited && state.exit_code == *code,
            Self::Health(wanted) => {
                let health = state.health.as_ref().filter(|_| state.status.is_live());
                let health = health.map(|health| health.status);
                health.map_or("none", health::Status::as_str) == wanted
            }
            Self::Volume(volume) => config.binds.iter().any(|bind| {
                bind.volume.as_ref() == Some(volume)
                    || bind.target == *volume
                    || bind.volume.is_none() && bind.source.as_os_str() == volume.as_str()
            }),
            Self::Network(None) => config.network.is_none(),
            Self::Network(Some(members)) => members.contains(&container.id),
            Self::Exposed(port) => config.exposed_ports.contains(port),
            Self::Published(port) => {
                let mut bound = container.state.ports.iter();
                bound.any(|b| format!("{}/{}", b.host_port, b.protocol) == *port)
            }
            // There are no services here whose tasks containers could be.
            Self::IsTask(wanted) => !wanted,
            Self::Before(time) => container.created_at < *time,
            Self::Since(time) => container.created_at > *time,
            Self::Ancestor(image) => {
                let id = &config.image_id;
                config.image == *image
                    || config.image.strip_suffix(":latest") == Some(image)
                    || image.strip_suffix(":latest") == Some(&config.image)
                    || id.trim_start_matches("sha256:").starts_with(image.as_str())
                    || id == image
            }
        }
    }
}

fn has_label(container: &Container, label: &str) -> bool {
    let labels = &container.config.labels;
    match label.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|own| own == value),
        None => labels.contains_key(label),
    }
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') {
        port.to_owned()
    } else {
        format!("{port}/tcp")
    }
}

/// The ids of the containers in a network; of one that is not there, nobody's.
fn members_of(store: &Store, network: &str) -> Result<Vec<String>, StoreError> {
    let Ok(network) = store.find_network(network)? else {
        return Ok(Vec::new());
    };
    let members = store.network_members(&network.id)?;
    Ok(members.into_iter().map(|m| m.endpoint.container).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::Bind;
    use crate::network::ports::{Bound, Protocol};

    fn container() -> Container {
        let mut container = Container {
            id: "abc123".into(),
            name: "web".into(),
            created_at: 100,
            config: crate::container::Config::default(),
            state: crate::container::State::default(),
        };
        container.config.labels.insert("a".into(), "1".into());
        container.config.image = "busybox".into();
        container.config.exposed_ports = vec!["80/tcp".into()];
        container.state.ports = vec![Bound {
            host_ip: [127, 0, 0, 1].into(),
            host_port: 8080,
            port: 80,
            protocol: Protocol::Tcp,
        }];
        container.config.binds = vec![Bind {
            volume: Some("data".into()),
            target: "/data".into(),
            ..Bind::default()
        }];
        container
    }

    fn parse(text: &str) -> Result<Condition, FilterError> {
        let (key, value) = text.split_once('=').unwrap();
        Condition::parse(text, key, value, || Ok(50), || Ok(vec!["other".into()]))
    }

    #[test]
    fn filters_combine_as_in_docker() {
        let container = container();
        let matches = |texts: &[&str]| {
            let filter = Filter {
                conditions: texts.iter().map(|t| parse(t).unwrap()).collect(),
            };
            filter.matches(&container)
        };
        for good in [
            &[][..],
            &["status=exited", "status=created"],
            &["label=a", "label=a=1", "id=abc"],
            &["health=none", "volume=data"],
            &["volume=/data", "volume=other"],
            &["expose=80", "network=none"],
            &["publish=8080/tcp"],
            &["since=x", "until=1"],
            &["ancestor=busybox:latest"],
            &["is-task=false"],
        ] {
            assert!(matches(good), "{good:?}");
        }
        for bad in [
            &["status=exited", "name=web"][..],
            &["label=a", "label=b"],
            &["label!=a"],
            &["before=x"],
            &["health=healthy"],
            &["network=bridge"],
            &["expose=81"],
            &["publish=80"],
        ] {
            assert!(!matches(bad), "{bad:?}");
        }
        for bad in [
            "status=asleep",
            "exited=x",
            "health=ill",
            "is-task=x",
            "until=soon",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
