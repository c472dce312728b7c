//! The one state machine of a container's life.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::health;
use crate::network::ports::Bound;

/// Where in its life a container is, in docker's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Made, not started, or its start failed.
    #[default]
    Created,
    /// A supervisor has it.
    Running,
    /// A supervisor has it, and its processes stand still.
    Paused,
    /// It ended, and its supervisor is about to start it again.
    Restarting,
    /// Its first process ended.
    Exited,
    /// It is being removed, or its removal was interrupted.
    Dead,
}

impl Status {
    /// Whether a supervisor has it.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// The steps that there are.
    fn leads_to(self, next: Self) -> bool {
        match self {
            Self::Created => matches!(next, Self::Running | Self::Dead),
            Self::Running => matches!(
                next,
                Self::Paused | Self::Restarting | Self::Exited | Self::Created
            ),
            Self::Paused => matches!(next, Self::Running | Self::Restarting | Self::Exited),
            Self::Restarting => matches!(next, Self::Running | Self::Restarting | Self::Exited),
            Self::Exited => matches!(next, Self::Running | Self::Dead),
            Self::Dead => matches!(next, Self::Dead),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What changes while a container lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where it is.
    pub status: Status,
    /// The supervisor's process id on the host while it has one, else 0.
    pub supervisor: i32,
    /// The machine's process id on the host while running, else 0.
    pub machine: i32,
    /// Which engine it runs on or last ran on; empty before the first start.
    pub engine: String,
    /// The first process's exit status after it ended.
    pub exit_code: i32,
    /// Whether the guest killed something of it for lack of memory.
    pub oom_killed: bool,
    /// One sentence on what went wrong, empty when nothing did.
    pub error: String,
    /// Nanoseconds since the epoch, 0 before the first start.
    pub started_at: i64,
    /// Nanoseconds since the epoch, 0 before the first end.
    pub finished_at: i64,
    /// Ports of the host that lead to it while it runs.
    #[serde(default)]
    pub ports: Vec<Bound>,
    /// Warnings of the last start, such as a wrong platform label.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What its health checks found, when it has some.
    #[serde(default)]
    pub health: Option<health::State>,
    /// How often its restart policy started it again since a user did.
    #[serde(default)]
    pub restart_count: u32,
    /// A user ended its last run, so `unless-stopped` leaves it alone.
    #[serde(default)]
    pub stopped_by_user: bool,
}

/// A step that the state machine does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a container that is {from} cannot become {to}")]
pub struct BadTransition {
    from: Status,
    to: Status,
}

impl State {
    fn step(&mut self, to: Status) -> Result<(), BadTransition> {
        let from = self.status;
        if !from.leads_to(to) {
            return Err(BadTransition { from, to });
        }
        self.status = to;
        Ok(())
    }

    /// A machine starts: by a user's will, or again by the restart policy's.
    pub fn start(&mut self, supervisor: i32, engine: &str, now: i64) -> Result<(), BadTransition> {
        let again = self.status == Status::Restarting;
        self.step(Status::Running)?;
        *self = Self {
            status: Status::Running,
            supervisor,
            engine: engine.to_owned(),
            started_at: now,
            finished_at: self.finished_at,
            restart_count: if again { self.restart_count } else { 0 },
            ..Self::default()
        };
        Ok(())
    }

    /// The first process never ran: back to created (or exited, if it ran before), with
    /// docker's exit code for why.
    pub fn start_failed(&mut self, code: i32, error: &str) {
        // A machine that could not even be made leaves the status as it was.
        if self.status.is_live() {
            self.status = match self.finished_at {
                0 => Status::Created,
                _ => Status::Exited,
            };
        }
        self.ended(code, error);
        self.supervisor = 0;
    }

    /// Its processes stand still, or go on.
    pub fn pause(&mut self, on: bool) -> Result<(), BadTransition> {
        match (on, self.status) {
            (true, _) => self.step(Status::Paused),
            (false, Status::Paused) => self.step(Status::Running),
            (false, from) => Err(BadTransition {
                from,
                to: Status::Running,
            }),
        }
    }

    /// The first process ended, or its machine did, and the restart policy wants it again.
    pub fn restart(&mut self, code: i32, error: &str, now: i64) -> Result<(), BadTransition> {
        self.step(Status::Restarting)?;
        self.finished_at = now;
        self.restart_count = self.restart_count.saturating_add(1);
        self.ended(code, error);
        Ok(())
    }

    /// The first process ended, or its machine did.
    pub fn exit(&mut self, code: i32, error: &str, now: i64) -> Result<(), BadTransition> {
        self.step(Status::Exited)?;
        self.finished_at = now;
        self.ended(code, error);
        self.supervisor = 0;
        Ok(())
    }

    /// It was waiting to be started again, and will not be.
    pub fn give_up(&mut self) -> Result<(), BadTransition> {
        self.step(Status::Exited)?;
        self.supervisor = 0;
        Ok(())
    }

    /// Its removal begins; from here on it can only go.
    pub fn die(&mut self) -> Result<(), BadTransition> {
        self.step(Status::Dead)
    }

    fn ended(&mut self, code: i32, error: &str) {
        self.machine = 0;
        self.ports.clear();
        self.exit_code = code;
        error.clone_into(&mut self.error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_goes_round() {
        let mut state = State::default();
        assert!(state.exit(0, "", 1).is_err());
        state.start(7, "uml", 10).unwrap();
        assert_eq!(
            (state.status, state.supervisor, state.started_at),
            (Status::Running, 7, 10)
        );
        assert!(state.start(8, "uml", 11).is_err());
        assert!(state.die().is_err());
        state.exit(3, "", 20).unwrap();
        assert_eq!(
            (state.status, state.exit_code, state.supervisor),
            (Status::Exited, 3, 0)
        );
        assert!(state.exit(3, "", 21).is_err());
        state.start(9, "tcg", 30).unwrap();
        assert_eq!((state.exit_code, state.finished_at), (0, 20));
        state.exit(0, "", 40).unwrap();
        state.die().unwrap();
        state.die().unwrap();
        assert!(state.start(1, "uml", 50).is_err() && !state.status.is_live());
    }

    #[test]
    fn a_failed_start_does_not_count_as_a_run() {
        let mut state = State::default();
        state.start(7, "uml", 10).unwrap();
        state.start_failed(127, "no such program");
        assert_eq!((state.status, state.exit_code), (Status::Created, 127));
        state.start(7, "uml", 10).unwrap();
        state.exit(0, "", 20).unwrap();
        state.start(7, "uml", 30).unwrap();
        state.start_failed(126, "not executable");
        assert_eq!((state.status, state.exit_code), (Status::Exited, 126));
    }

    #[test]
    fn pausing_needs_a_running_container() {
        let mut state = State::default();
        assert!(state.pause(true).is_err() && state.pause(false).is_err());
        state.start(7, "uml", 10).unwrap();
        assert!(state.pause(false).is_err());
        state.pause(true).unwrap();
        assert!(state.pause(true).is_err());
        state.pause(false).unwrap();
        state.pause(true).unwrap();
        state.exit(137, "", 20).unwrap();
    }

    #[test]
    fn restarts_are_counted_until_a_user_starts_it() {
        let mut state = State::default();
        state.start(7, "uml", 10).unwrap();
        for count in 1..=2 {
            state.restart(1, "", 20).unwrap();
            assert_eq!((state.status, state.supervisor), (Status::Restarting, 7));
            state.start(7, "uml", 30).unwrap();
            assert_eq!(state.restart_count, count);
        }
        state.restart(1, "", 40).unwrap();
        state.give_up().unwrap();
        assert_eq!(
            (state.status, state.exit_code, state.restart_count),
            (Status::Exited, 1, 3)
        );
        state.start(8, "uml", 50).unwrap();
        assert_eq!(state.restart_count, 0);
    }
}
