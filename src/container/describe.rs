//! A container's state in docker's words.

use super::health;
use super::record::{Container, now_ns};
use super::state::Status;
use crate::human;

/// The STATUS column: `Up 2 seconds (healthy)`, `Exited (0) 3 hours ago`.
pub fn status(container: &Container) -> String {
    let state = &container.state;
    let since = |then: i64| human::duration_ns(now_ns() - then);
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let health = match state.health.as_ref().map(|health| health.status) {
                None => "",
                Some(health::Status::Starting) => " (health: starting)",
                Some(health::Status::Healthy) => " (healthy)",
                Some(health::Status::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", since(state.started_at))
        }
        Status::Paused => format!("Up {} (Paused)", since(state.started_at)),
        Status::Restarting => format!(
            "Restarting ({}) {} ago",
            state.exit_code,
            since(state.finished_at)
        ),
        Status::Dead => "Dead".to_owned(),
        Status::Exited => {
            format!(
                "Exited ({}) {} ago",
                state.exit_code,
                since(state.finished_at)
            )
        }
    }
}
