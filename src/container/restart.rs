//! Restart policies: whether a container that ended is started again, and after how long.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first wait, and the one after a run that went well for a while.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest wait.
const LAST_DELAY: Duration = Duration::from_secs(60);
/// A run that went on for so long begins the waits anew.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// `--restart`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Never.
    #[default]
    No,
    /// When it ended with something else than 0, so many times at most; 0 is any number.
    OnFailure(u32),
    /// Always, but for a user's `stop` until the next boot.
    Always,
    /// Always, but for a user's `stop`.
    UnlessStopped,
}

/// Not a restart policy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// An unknown name.
    #[error(
        "invalid restart policy {0:?}, use no, on-failure[:max-retries], always or unless-stopped"
    )]
    Name(String),
    /// A number where none can be.
    #[error("invalid restart policy {0:?}: maximum retry count can only be used with on-failure")]
    Count(String),
    /// No number where one is needed.
    #[error("invalid restart policy {0:?}: maximum retry count must be a whole number, 0 or more")]
    Number(String),
}

impl FromStr for Policy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPolicy> {
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => (name, Some(count)),
            None => (text, None),
        };
        let policy = match name {
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => Self::OnFailure(match count {
                None => 0,
                Some(count) => count
                    .parse()
                    .map_err(|_| InvalidPolicy::Number(text.to_owned()))?,
            }),
            _ => return Err(InvalidPolicy::Name(text.to_owned())),
        };
        match (policy, count) {
            (Self::OnFailure(_), _) | (_, None) => Ok(policy),
            _ => Err(InvalidPolicy::Count(text.to_owned())),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnFailure(count) if *count > 0 => write!(f, "on-failure:{count}"),
            policy => f.write_str(policy.name()),
        }
    }
}

impl Policy {
    /// Docker's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// The most restarts in a row; 0 is any number.
    pub fn limit(self) -> u32 {
        match self {
            Self::OnFailure(count) => count,
            _ => 0,
        }
    }

    /// Whether a container that ended by itself is started again.
    pub fn restarts(self, exit_code: i32, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(limit) => exit_code != 0 && (limit == 0 || restarts < limit),
            Self::Always | Self::UnlessStopped => true,
        }
    }

    /// Whether a container that does not run is started when the host has come up.
    pub fn starts_at_boot(self, exit_code: i32, restarts: u32, stopped_by_user: bool) -> bool {
        match self {
            Self::UnlessStopped | Self::OnFailure(_) if stopped_by_user => false,
            policy => policy.restarts(exit_code, restarts),
        }
    }
}

/// The waits between restarts: each twice the one before.
#[derive(Debug, Default)]
pub struct BackOff {
    delay: Duration,
}

impl BackOff {
    /// The wait after a run that took `ran`.
    pub fn next(&mut self, ran: Duration) -> Duration {
        self.delay = if self.delay.is_zero() || ran >= GOOD_RUN {
            FIRST_DELAY
        } else {
            (self.delay * 2).min(LAST_DELAY)
        };
        self.delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_docker_reads_them() {
        for (text, policy) in [
            ("no", Policy::No),
            ("", Policy::No),
            ("always", Policy::Always),
            ("unless-stopped", Policy::UnlessStopped),
            ("on-failure", Policy::OnFailure(0)),
            ("on-failure:3", Policy::OnFailure(3)),
        ] {
            assert_eq!(text.parse(), Ok(policy));
            if !text.is_empty() {
                assert_eq!(policy.to_string(), text);
            }
        }
        for bad in [
            "sometimes",
            "always:1",
            "no:",
            "on-failure:",
            "on-failure:-1",
        ] {
            assert!(bad.parse::<Policy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_restarted() {
        let limited = Policy::OnFailure(2);
        assert!(limited.restarts(1, 0) && limited.restarts(1, 1) && !limited.restarts(1, 2));
        assert!(!limited.restarts(0, 0) && Policy::OnFailure(0).restarts(9, 1000));
        assert!(Policy::Always.restarts(0, 5) && Policy::UnlessStopped.restarts(0, 5));
        assert!(!Policy::No.restarts(1, 0));
    }

    #[test]
    fn what_is_started_at_boot() {
        assert!(Policy::Always.starts_at_boot(0, 0, true));
        assert!(Policy::UnlessStopped.starts_at_boot(0, 0, false));
        assert!(!Policy::UnlessStopped.starts_at_boot(0, 0, true));
        assert!(Policy::OnFailure(0).starts_at_boot(137, 0, false));
        assert!(!Policy::OnFailure(0).starts_at_boot(137, 0, true));
        assert!(!Policy::No.starts_at_boot(1, 0, false));
    }

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_good_run() {
        let short = Duration::from_secs(1);
        let mut waits = BackOff::default();
        assert_eq!(waits.next(short), FIRST_DELAY);
        assert_eq!(waits.next(short), FIRST_DELAY * 2);
        assert_eq!(waits.next(short), FIRST_DELAY * 4);
        for _ in 0..20 {
            waits.next(short);
        }
        assert_eq!(waits.next(short), LAST_DELAY);
        assert_eq!(waits.next(GOOD_RUN), FIRST_DELAY);
    }
}
