//! `update`: changing what a container is asked to be after it was made.

use guest_agent::protocol::Request;

use super::client::{self, ClientError};
use super::create::{CreateError, check_size};
use super::record::Container;
use super::restart::Policy;
use super::state::Status;
use crate::store::{Store, StoreError};

/// What is to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Guest memory in bytes.
    pub memory: Option<u64>,
    /// Virtual processors.
    pub cpus: Option<u32>,
    /// The most processes at once; any with 0 or less.
    pub pids_limit: Option<i64>,
    /// Restart policy.
    pub restart: Option<Policy>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// A size that a guest cannot have, or a policy that does not fit.
    #[error(transparent)]
    Value(#[from] CreateError),
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
    config.memory = update.memory.unwrap_or(config.memory);
    config.cpus = update.cpus.unwrap_or(config.cpus);
    config.restart = update.restart.unwrap_or(config.restart);
    check_size(&config)?;
    let running = matches!(container.state.status, Status::Running | Status::Paused);
    if let Some(limit) = update.pids_limit.filter(|_| running) {
        let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0);
        client::ask_agent(store, container, Request::LimitProcesses(limit))?;
    }
    store.update_config(&container.id, |config| {
        config.memory = update.memory.unwrap_or(config.memory);
        config.cpus = update.cpus.unwrap_or(config.cpus);
        config.restart = update.restart.unwrap_or(config.restart);
        config.pids_limit = update.pids_limit.or(config.pids_limit);
    })?;
    let mut later = Vec::new();
    if running && (update.memory.is_some() || update.cpus.is_some()) {
        later.push(format!(
            "container {} runs with the memory and the processors of its start, the new ones \
             take effect when it starts again",
            container.name
        ));
    }
    Ok(later)
}
