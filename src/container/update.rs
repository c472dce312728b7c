//! `update`: changing what a container is asked to be after it was made.

use guest_agent::protocol::Request;

use super::client::{self, ClientError};
use super::control::ControlRequest;
use super::create::{CreateError, check_size};
use super::limits::{self, Processors};
use super::record::{Config, Container};
use super::restart::Policy;
use super::state::Status;
use crate::store::{Store, StoreError};

/// What is to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Guest memory in bytes.
    pub memory: Option<u64>,
    /// Processor time.
    pub processors: Processors,
    /// The host's processors.
    pub cpuset: Option<String>,
    /// The most processes at once; any with 0 or less.
    pub pids_limit: Option<i64>,
    /// Restart policy.
    pub restart: Option<Policy>,
}

impl Update {
    fn apply(&self, config: &mut Config) {
        config.memory = self.memory.unwrap_or(config.memory);
        config.processors = config.processors.changed_by(&self.processors);
        // What cannot be a guest's was refused before.
        if let Ok(Some(cpus)) = config.processors.whole() {
            config.cpus = cpus;
        }
        if self.cpuset.is_some() {
            config.cpuset.clone_from(&self.cpuset);
        }
        config.restart = self.restart.unwrap_or(config.restart);
        config.pids_limit = self.pids_limit.or(config.pids_limit);
    }

    /// Whether it is about what only the host can keep.
    fn is_about_host(&self) -> bool {
        self.processors != Processors::default() || self.cpuset.is_some()
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// A size that a guest cannot have, or a policy that does not fit.
    #[error(transparent)]
    Value(#[from] CreateError),
    /// Processor time that cannot be.
    #[error("{0}")]
    Processors(String),
    /// The running guest refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Changes the container; sentences on what takes effect later.
pub fn update(
    store: &Store,
    container: &Container,
    update: &Update,
) -> Result<Vec<String>, UpdateError> {
    let mut config = container.config.clone();
    update.apply(&mut config);
    check_size(&config)?;
    let wrong = |error: anyhow::Error| UpdateError::Processors(error.to_string());
    config.processors.check().map_err(wrong)?;
    config.processors.whole().map_err(wrong)?;
    let running = matches!(container.state.status, Status::Running | Status::Paused);
    if let Some(limit) = update.pids_limit.filter(|_| running) {
        let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0);
        client::ask_agent(store, container, Request::LimitProcesses(limit))?;
    }
    store.update_config(&container.id, |config| update.apply(config))?;
    let mut told = Vec::new();
    if running && (update.is_about_host() || update.pids_limit.is_some()) {
        let limited = ControlRequest::Limit(limits::of_host(&config));
        match client::ask(store, container, &limited) {
            // The guest itself keeps to a number of processes.
            Err(ClientError::Refused { .. }) if !update.is_about_host() => {}
            Err(ClientError::Refused { message, .. }) => told.push(format!(
                "container {} goes on as it is until it starts again: {message}",
                container.name
            )),
            limited => drop(limited?),
        }
    }
    let resized = config.memory != container.config.memory || config.cpus != container.config.cpus;
    if running && resized {
        told.push(format!(
            "container {} runs with the memory and the number of processors of its start, the \
             new ones take effect when it starts again",
            container.name
        ));
    }
    Ok(told)
}
