//! The one state machine of a container's life.

use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// Its first process ended.
    Exited,
}

impl Status {
    /// Whether a supervisor has it.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running)
    }

    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
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
    /// The supervisor's process id on the host while running, else 0.
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
}

/// A step that the state machine does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a container that is {from} cannot become {to}")]
pub struct BadTransition {
    from: Status,
    to: Status,
}

impl State {
    /// The start of a supervisor: created or exited becomes running.
    pub fn start(&mut self, supervisor: i32, engine: &str, now: i64) -> Result<(), BadTransition> {
        if self.status == Status::Running {
            return Err(BadTransition {
                from: self.status,
                to: Status::Running,
            });
        }
        *self = Self {
            status: Status::Running,
            supervisor,
            engine: engine.to_owned(),
            started_at: now,
            finished_at: self.finished_at,
            ..Self::default()
        };
        Ok(())
    }

    /// The first process never ran: back to created (or exited, if it ran before), with
    /// docker's exit code for why.
    pub fn start_failed(&mut self, code: i32, error: &str) {
        self.status = if self.finished_at == 0 {
            Status::Created
        } else {
            Status::Exited
        };
        self.ended(code, error);
    }

    /// The first process ended, or its machine did.
    pub fn exit(&mut self, code: i32, error: &str, now: i64) -> Result<(), BadTransition> {
        if self.status != Status::Running {
            return Err(BadTransition {
                from: self.status,
                to: Status::Exited,
            });
        }
        self.status = Status::Exited;
        self.finished_at = now;
        self.ended(code, error);
        Ok(())
    }

    fn ended(&mut self, code: i32, error: &str) {
        self.supervisor = 0;
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
        state.exit(3, "", 20).unwrap();
        assert_eq!(
            (state.status, state.exit_code, state.supervisor),
            (Status::Exited, 3, 0)
        );
        assert!(state.exit(3, "", 21).is_err());
        state.start(9, "tcg", 30).unwrap();
        assert_eq!((state.exit_code, state.finished_at), (0, 20));
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
}
