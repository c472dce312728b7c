//! What runs without anybody asking: containers that their restart policy starts when the host
//! has come up, and a systemd unit for that.

use std::fmt::Write as _;
use std::path::Path;

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

/// A systemd unit that resumes containers at boot and suspends them at shutdown: for a user's
/// service manager, or for root for the system's.
pub fn unit(program: &Path, environment: &[(String, String)], superuser: bool) -> String {
    let program = quote(&program.display().to_string());
    let (place, enable, target) = match superuser {
        true => (
            "/etc/systemd/system/hull.service",
            "systemctl enable hull.service",
            "multi-user.target",
        ),
        false => (
            "~/.config/systemd/user/hull.service",
            "systemctl --user enable hull.service && loginctl enable-linger",
            "default.target",
        ),
    };
    let mut settings = String::new();
    for (name, value) in environment {
        // Writing to a string cannot fail.
        let _ = writeln!(
            settings,
            "Environment={}",
            quote(&format!("{name}={value}"))
        );
    }
    format!(
        "# Starts at boot what its restart policy says. To install it:\n\
         #   hull system unit > {place}\n\
         #   {enable}\n\
         [Unit]\n\
         Description=Containers of hull\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         {settings}\
         ExecStart={program} system resume\n\
         ExecStop={program} system suspend\n\
         TimeoutStopSec=120\n\
         \n\
         [Install]\n\
         WantedBy={target}\n"
    )
}

/// A word as systemd reads it in a command line or a setting.
fn quote(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('%', "%%").replace('$', "$$"))
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

    #[test]
    fn the_unit_names_the_program_and_its_environment() {
        let environment = [("HULL_ROOT".to_owned(), "/a b%".to_owned())];
        let text = unit(Path::new("/opt/hull"), &environment, false);
        assert!(
            text.contains("ExecStart=\"/opt/hull\" system resume\n"),
            "{text}"
        );
        assert!(
            text.contains("Environment=\"HULL_ROOT=/a b%%\"\n"),
            "{text}"
        );
        assert!(text.ends_with("WantedBy=default.target\n"), "{text}");
        assert!(unit(Path::new("/x"), &[], true).contains("multi-user.target"));
    }
}
