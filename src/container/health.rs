//! Health checks: what is run how often, and what its results make of a container.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Results that are kept, as in docker.
const LOG_ENTRIES: usize = 5;
/// Bytes of a check's output that are kept, as in docker.
pub const MAX_OUTPUT: usize = 4096;

/// A check, in docker's field names and units (nanoseconds); 0 and empty mean "not said".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Check {
    /// `["NONE"]`, `["CMD", program, argument…]` or `["CMD-SHELL", line]`.
    #[serde(deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long one may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time after the start in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn null_is_default<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A check that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCheck {
    /// A negative or tiny time.
    #[error("{0} of the health check cannot be less than 1ms")]
    Time(&'static str),
    /// A negative number of retries.
    #[error("retries of the health check cannot be negative")]
    Retries,
    /// Neither of the forms.
    #[error("unknown type of health check {0:?}, use NONE, CMD or CMD-SHELL")]
    Form(String),
}

impl Check {
    /// The check in an image's configuration.
    pub fn of_image(raw_config: &[u8]) -> Option<Self> {
        let image: Value = serde_json::from_slice(raw_config).ok()?;
        let check = image.get("config")?.get("Healthcheck")?;
        serde_json::from_value(check.clone()).ok()
    }

    /// What the user said, completed with what the image says; as docker does it.
    pub fn merge(mut self, image: Option<Self>) -> Self {
        let Some(image) = image else { return self };
        if self.test.is_empty() {
            self.test = image.test;
        }
        for (own, other) in [
            (&mut self.interval, image.interval),
            (&mut self.timeout, image.timeout),
            (&mut self.start_period, image.start_period),
            (&mut self.start_interval, image.start_interval),
            (&mut self.retries, image.retries),
        ] {
            if *own == 0 {
                *own = other;
            }
        }
        self
    }

    /// Whether it can be carried out.
    pub fn validate(&self) -> Result<(), InvalidCheck> {
        for (name, time) in [
            ("interval", self.interval),
            ("timeout", self.timeout),
            ("start period", self.start_period),
            ("start interval", self.start_interval),
        ] {
            if time != 0 && time < 1_000_000 {
                return Err(InvalidCheck::Time(name));
            }
        }
        if self.retries < 0 {
            return Err(InvalidCheck::Retries);
        }
        match self.test.first().map(String::as_str) {
            None | Some("NONE" | "CMD" | "CMD-SHELL" | "") => Ok(()),
            Some(other) => Err(InvalidCheck::Form(other.to_owned())),
        }
    }

    /// The command to run; none when nothing is checked.
    pub fn argv(&self, shell: &[String]) -> Option<Vec<String>> {
        let (form, rest) = self.test.split_first()?;
        match form.as_str() {
            "CMD" if !rest.is_empty() => Some(rest.to_vec()),
            "CMD-SHELL" => {
                let line = rest.first()?;
                let default = ["/bin/sh".to_owned(), "-c".to_owned()];
                let shell = if shell.is_empty() { &default } else { shell };
                Some(shell.iter().chain([line]).cloned().collect())
            }
            _ => None,
        }
    }

    /// How long a check may take.
    pub fn timeout(&self) -> Duration {
        or_default(self.timeout, Duration::from_secs(30))
    }

    /// Failures in a row that make it unhealthy.
    pub fn retries(&self) -> u32 {
        match u32::try_from(self.retries) {
            Ok(0) | Err(_) => 3,
            Ok(retries) => retries,
        }
    }

    /// The wait before the next check of a container that has run for `age`.
    pub fn wait(&self, status: Status, age: Duration) -> Duration {
        if status == Status::Starting && age < self.start_period() {
            or_default(self.start_interval, Duration::from_secs(5))
        } else {
            or_default(self.interval, Duration::from_secs(30))
        }
    }

    fn start_period(&self) -> Duration {
        or_default(self.start_period, Duration::ZERO)
    }
}

/// The shell in an image's configuration, empty when it names none.
pub fn shell_of_image(raw_config: &[u8]) -> Vec<String> {
    let image = serde_json::from_slice::<Value>(raw_config).unwrap_or_default();
    let shell = image.get("config").and_then(|config| config.get("Shell"));
    shell
        .and_then(|shell| serde_json::from_value(shell.clone()).ok())
        .unwrap_or_default()
}

fn or_default(nanoseconds: i64, default: Duration) -> Duration {
    match u64::try_from(nanoseconds) {
        Ok(0) | Err(_) => default,
        Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
    }
}

/// What the checks say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// None has succeeded yet.
    #[default]
    Starting,
    /// The last one succeeded, or too few failed since.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

impl Status {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How one check went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Nanoseconds since the epoch.
    pub start: i64,
    /// Nanoseconds since the epoch.
    pub end: i64,
    /// Its exit code; -1 when it could not be run or took too long.
    pub exit_code: i32,
    /// What it wrote.
    pub output: String,
}

/// What the checks of one run of a container have found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What they say.
    pub status: Status,
    /// Failures since the last success.
    pub failing_streak: u32,
    /// The last results, oldest first.
    pub log: Vec<Outcome>,
}

impl State {
    /// Takes a result into account; whether that changed the status.
    pub fn record(&mut self, check: &Check, started_at: i64, outcome: Outcome) -> bool {
        let before = self.status;
        let age = u64::try_from(outcome.start.saturating_sub(started_at)).unwrap_or(0);
        let excused =
            self.status == Status::Starting && Duration::from_nanos(age) < check.start_period();
        if outcome.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else if !excused {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries() {
                self.status = Status::Unhealthy;
            }
        }
        self.log.push(outcome);
        let surplus = self.log.len().saturating_sub(LOG_ENTRIES);
        self.log.drain(..surplus);
        self.status != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn outcome(second: i64, exit_code: i32) -> Outcome {
        Outcome {
            start: second * SECOND,
            end: second * SECOND,
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn commands_are_run_directly_or_by_the_shell() {
        let argv = |test: &[&str], shell: &[&str]| {
            let check = Check {
                test: words(test),
                ..Check::default()
            };
            check.argv(&words(shell))
        };
        assert_eq!(argv(&["CMD", "a", "b"], &[]), Some(words(&["a", "b"])));
        let line = Some(words(&["/bin/sh", "-c", "a || exit 1"]));
        assert_eq!(argv(&["CMD-SHELL", "a || exit 1"], &[]), line);
        let line = Some(words(&["/bin/ash", "-ec", "a"]));
        assert_eq!(argv(&["CMD-SHELL", "a"], &["/bin/ash", "-ec"]), line);
        for none in [&["NONE"][..], &[], &["CMD"], &["CMD-SHELL"]] {
            assert_eq!(argv(none, &[]), None);
        }
    }

    #[test]
    fn the_image_completes_what_the_user_says() {
        let raw = br#"{"config":{"Healthcheck":{"Test":["CMD-SHELL","a"],
            "Interval":5000000000,"Timeout":3000000000}}}"#;
        let image = Check::of_image(raw);
        let user = Check {
            interval: SECOND,
            retries: 1,
            ..Check::default()
        };
        let merged = user.merge(image.clone());
        assert_eq!(merged.test, ["CMD-SHELL", "a"]);
        assert_eq!(
            (merged.interval, merged.timeout, merged.retries),
            (SECOND, 3 * SECOND, 1)
        );
        let none = Check {
            test: words(&["NONE"]),
            ..Check::default()
        };
        assert_eq!(none.merge(image).argv(&[]), None);
        assert_eq!(Check::of_image(br#"{"config":{}}"#), None);
        let null = br#"{"config":{"Healthcheck":{"Test":null}}}"#;
        assert_eq!(Check::of_image(null), Some(Check::default()));
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = |check: Check| check.validate().is_err();
        assert!(bad(Check {
            interval: -1,
            ..Check::default()
        }));
        assert!(bad(Check {
            timeout: 1000,
            ..Check::default()
        }));
        assert!(bad(Check {
            retries: -1,
            ..Check::default()
        }));
        assert!(bad(Check {
            test: words(&["RUN", "x"]),
            ..Check::default()
        }));
        assert!(!bad(Check::default()));
    }

    #[test]
    fn three_failures_make_it_unhealthy_and_one_success_healthy() {
        let check = Check::default();
        let mut state = State::default();
        assert!(!state.record(&check, 0, outcome(1, 1)));
        assert!(!state.record(&check, 0, outcome(2, 1)));
        assert!(state.record(&check, 0, outcome(3, -1)));
        assert_eq!((state.status, state.failing_streak), (Status::Unhealthy, 3));
        assert!(state.record(&check, 0, outcome(4, 0)));
        assert_eq!((state.status, state.failing_streak), (Status::Healthy, 0));
        for second in 5..20 {
            state.record(&check, 0, outcome(second, 0));
        }
        assert_eq!(state.log.len(), LOG_ENTRIES);
        assert_eq!(state.log[4].start, 19 * SECOND);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_until_it_was_healthy() {
        let check = Check {
            start_period: 10 * SECOND,
            retries: 1,
            ..Check::default()
        };
        let mut state = State::default();
        assert!(!state.record(&check, 0, outcome(5, 1)));
        assert_eq!((state.status, state.failing_streak), (Status::Starting, 0));
        assert!(state.record(&check, 0, outcome(6, 0)));
        assert!(
            state.record(&check, 0, outcome(7, 1)),
            "it was healthy once"
        );
        let mut late = State::default();
        assert!(late.record(&check, 0, outcome(10, 1)));
        let age = Duration::from_secs(1);
        assert_eq!(check.wait(Status::Starting, age), Duration::from_secs(5));
        assert_eq!(check.wait(Status::Healthy, age), Duration::from_secs(30));
    }
}
