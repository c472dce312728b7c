//! Signals to the supervisor itself: the host goes down, or a user's session ends.

use std::rc::Rc;

use tokio::signal::unix::{SignalKind, signal};

use super::hub::Hub;
use super::stop;
use crate::container::lifecycle::{STOP_TIMEOUT, signal_number};

const SIGTERM: i32 = nix::sys::signal::Signal::SIGTERM as i32;

/// Stops the container as `stop` does at the first SIGTERM. That does not count as a user's
/// `stop`: its restart policy starts it again when the host has come up.
pub async fn watch(hub: Rc<Hub>) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    if terminate.recv().await.is_none() {
        return;
    }
    let (number, timeout) = {
        let container = hub.record.get();
        let number = container.config.stop_signal.as_deref().map(signal_number);
        let number = number.and_then(Result::ok).unwrap_or(SIGTERM);
        let timeout = container.config.stop_timeout.unwrap_or(STOP_TIMEOUT);
        (number, timeout)
    };
    stop::stop(&hub, number, Some(timeout), false).await;
}
