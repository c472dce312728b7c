//! What can be done to a container after it was made: stop, kill, wait, remove.

use nix::sys::signal;

use super::client::{self, ClientError};
use super::control::{ControlError, ControlRequest};
use super::record::{Container, now_ns};
use super::state::{BadTransition, Status};
use crate::store::{Found, Lock, Store, StoreError};

/// Seconds that `stop` waits where nobody says otherwise, docker's.
pub const STOP_TIMEOUT: u32 = 10;

/// Why something could not be done to a container.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// No such container.
    #[error("No such container: {0}")]
    NotFound(String),
    /// Several ids begin like that.
    #[error("container id prefix {0:?} is ambiguous, give more digits")]
    Ambiguous(String),
    /// Not a signal.
    #[error("invalid signal: {0}")]
    Signal(String),
    /// It runs.
    #[error("cannot remove container {0:?}: it is running, stop it first or use rm -f")]
    Running(String),
    /// Its supervisor neither runs it nor ends.
    #[error("container {0} does not come to an end, its supervisor hangs; kill that process")]
    Stuck(String),
    /// It does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// It stands still.
    #[error("container {0} is paused, unpause it first")]
    Paused(String),
    /// It is between two runs.
    #[error("container {0} is restarting, wait until it is running")]
    Restarting(String),
    /// The supervisor could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It does something else.
    #[error(transparent)]
    State(#[from] BadTransition),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The container that `text` names.
pub fn find(store: &Store, text: &str) -> Result<Container, LifecycleError> {
    match store.find_container(text)? {
        Found::One(container) => Ok(*container),
        Found::Ambiguous => Err(LifecycleError::Ambiguous(text.to_owned())),
        Found::None => Err(LifecycleError::NotFound(text.to_owned())),
    }
}

/// Refuses a container without processes.
pub fn must_run(container: &Container) -> Result<(), LifecycleError> {
    match container.state.status {
        Status::Running | Status::Paused => Ok(()),
        Status::Restarting => Err(LifecycleError::Restarting(container.name.clone())),
        _ => Err(LifecycleError::NotRunning(container.name.clone())),
    }
}

/// Refuses a container in which nothing new can begin.
pub fn must_be_active(container: &Container) -> Result<(), LifecycleError> {
    match container.state.status {
        Status::Paused => Err(LifecycleError::Paused(container.name.clone())),
        _ => must_run(container),
    }
}

/// The number of a signal that a user names: `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub fn signal_number(text: &str) -> Result<i32, LifecycleError> {
    let wrong = || LifecycleError::Signal(text.to_owned());
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64)
            .contains(&number)
            .then_some(number)
            .ok_or_else(wrong);
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    for (name, base) in [("RTMIN", 34), ("RTMAX", 64)] {
        if let Some(offset) = bare.strip_prefix(name) {
            let offset = if offset.is_empty() {
                Ok(0)
            } else {
                offset.parse::<i32>()
            };
            let number = offset.ok().and_then(|offset| offset.checked_add(base));
            return number.filter(|n| (34..=64).contains(n)).ok_or_else(wrong);
        }
    }
    let known = format!("SIG{bare}").parse::<signal::Signal>();
    known.map(|known| known as i32).map_err(|_| wrong())
}

/// Stops a running container: its stop signal, a while, then SIGKILL. One that does not run
/// is left alone. Only what a user stops stays stopped when the host comes up again.
pub fn stop(
    store: &Store,
    container: &Container,
    signal: Option<&str>,
    timeout: Option<i64>,
    by_user: bool,
) -> Result<(), LifecycleError> {
    let signal = signal
        .or(container.config.stop_signal.as_deref())
        .unwrap_or("TERM");
    let signal = signal_number(signal)?;
    // Docker: a negative number of seconds waits for ever.
    let timeout = match timeout {
        Some(seconds) => u32::try_from(seconds).ok(),
        None => Some(container.config.stop_timeout.unwrap_or(STOP_TIMEOUT)),
    };
    let request = ControlRequest::Stop {
        signal,
        timeout,
        by_user,
    };
    end(store, container, &request)
}

/// Ends the container's machine at once.
pub fn end_machine(store: &Store, container: &Container) -> Result<(), LifecycleError> {
    end(store, container, &ControlRequest::Kill)
}

/// Asks for an end; a supervisor that is gone by then has what was asked for.
fn end(
    store: &Store,
    container: &Container,
    request: &ControlRequest,
) -> Result<(), LifecycleError> {
    match client::ask(store, container, request) {
        Ok(_) => Ok(()),
        Err(ClientError::NotRunning(_) | ClientError::Control(ControlError::Gone)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sends a signal to the first process. SIGKILL and the container's stop signal end its
/// restarts too.
pub fn kill(store: &Store, container: &Container, signal: i32) -> Result<(), LifecycleError> {
    const KILL: i32 = signal::Signal::SIGKILL as i32;
    let stop = container.config.stop_signal.as_deref().unwrap_or("TERM");
    let ends = signal == KILL || signal_number(stop).is_ok_and(|stop| stop == signal);
    client::ask(store, container, &ControlRequest::Signal { signal, ends })?;
    Ok(())
}

/// Stops all of a container's processes where they are, or lets them go on.
pub fn pause(store: &Store, container: &Container, on: bool) -> Result<(), LifecycleError> {
    client::ask(store, container, &ControlRequest::Pause(on))?;
    Ok(())
}

/// Waits until the container has ended and returns its exit code.
pub fn wait(store: &Store, container: &Container) -> Result<i32, LifecycleError> {
    match client::wait(store, container) {
        Ok(exit) => Ok(exit.code),
        Err(ClientError::NotRunning(_) | ClientError::Control(ControlError::Gone)) => {
            // It ended in between, or is not running at all.
            match store.find_container(&container.id)? {
                Found::One(now) => Ok(now.state.exit_code),
                _ => Ok(container.state.exit_code),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes a container; one that runs only with `force`.
pub fn remove(
    store: &Store,
    container: &Container,
    force: bool,
    volumes: bool,
) -> Result<(), LifecycleError> {
    loop {
        let now = match store.find_container(&container.id)? {
            Found::One(now) => now,
            // Somebody else removed it: it is gone, as was asked.
            _ => return Ok(()),
        };
        if now.state.status.is_live() {
            if !force {
                return Err(LifecycleError::Running(container.name.clone()));
            }
            end_machine(store, container)?;
        }
        // Whoever ends it holds the lock a little longer than the record says.
        match store.wait_for_lock(&container.id)? {
            Lock::Taken(_lock) => {
                let mut state = match store.find_container(&container.id)? {
                    Found::One(now) => now.state,
                    _ => return Ok(()),
                };
                if state.status.is_live() {
                    // Its supervisor was killed before it could say so.
                    state.exit(137, "", now_ns())?;
                }
                state.die()?;
                store.delete_container(container, &state, &[])?;
                if volumes || container.config.auto_remove {
                    store.remove_anonymous_volumes(&container.config)?;
                }
                return Ok(());
            }
            // Started again in between.
            Lock::Running => {}
            Lock::Gone => return Ok(()),
            Lock::Stuck => return Err(LifecycleError::Stuck(container.name.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_as_in_docker() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGUSR1", 10),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(signal_number(text).unwrap(), number, "{text}");
        }
        for text in [
            "", "0", "65", "-1", "SIG", "NOPE", "RTMIN+31", "RTMAX+1", "RTMIN-1",
        ] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }
}
