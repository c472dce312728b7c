//! What runs without anybody asking: containers that their restart policy starts when the host
//! has come up.

use crate::container::control::Attach;
use crate::container::launch::{self, LaunchError};
use crate::container::lifecycle::{self, LifecycleError};
use crate::container::record::Container;
use crate::store::{Store, StoreError};

/// A container and what came of starting or stopping it.
pub type Outcome<E> = (Container, Result<(), E>);

/// Starts every container whose restart policy says so.
pub fn resume(store: &Store) -> Result<Vec<Outcome<LaunchError>>, StoreError> {
    let mut containers = store.containers()?;
    containers.retain(is_due);
    // The oldest first: later ones may count on them.
    containers.reverse();
    let start = |container: Container| {
        let started = launch::start(store, &container, Attach::default(), None);
        (container, started.map(drop))
    };
    Ok(containers.into_iter().map(start).collect())
}

/// Stops every container, so that [`resume`] starts it again.
pub fn suspend(store: &Store) -> Result<Vec<Outcome<LifecycleError>>, StoreError> {
    let mut containers = store.containers()?;
    containers.retain(|container| container.state.status.is_live());
    let stopping: Vec<_> = std::thread::scope(|scope| {
        let stop = |container: Container| {
            scope.spawn(move || {
                let stopped = lifecycle::stop(store, &container, None, None, false);
                (container, stopped)
            })
        };
        let threads: Vec<_> = containers.into_iter().map(stop).collect();
        // A thread that panicked has nothing to tell.
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    });
    Ok(stopping)
}

fn is_due(container: &Container) -> bool {
    let (state, policy) = (&container.state, container.config.restart);
    !state.status.is_live()
        && state.started_at != 0
        && policy.starts_at_boot(state.exit_code, state.restart_count, state.stopped_by_user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::restart::Policy;
    use crate::container::{Config, State, Status};

    #[test]
    fn what_ran_by_its_policy_is_due() {
        let due = |policy, status, by_user, started_at| {
            is_due(&Container {
                id: String::new(),
                name: String::new(),
                created_at: 0,
                config: Config {
                    restart: policy,
                    ..Config::default()
                },
                state: State {
                    status,
                    stopped_by_user: by_user,
                    started_at,
                    ..State::default()
                },
            })
        };
        assert!(due(Policy::Always, Status::Exited, true, 1));
        assert!(due(Policy::UnlessStopped, Status::Exited, false, 1));
        assert!(!due(Policy::UnlessStopped, Status::Exited, true, 1));
        assert!(!due(Policy::Always, Status::Running, false, 1));
        assert!(!due(Policy::Always, Status::Created, false, 0));
        assert!(!due(Policy::No, Status::Exited, false, 1));
    }
}
