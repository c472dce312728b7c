//! The health options of `run` and `create`.

use anyhow::{Context as _, bail};
use clap::Args;

use crate::container::health::Check;
use crate::units::parse_duration;

/// `--health-*`.
#[derive(Debug, Args)]
pub struct HealthFlags {
    /// Command that tells whether the container is well
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between two checks, as in 30s
    #[arg(long, value_name = "TIME")]
    pub health_interval: Option<String>,
    /// Failures in a row that make the container unhealthy
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub health_retries: Option<i64>,
    /// Time after the start in which failures do not count
    #[arg(long, value_name = "TIME")]
    pub health_start_period: Option<String>,
    /// Time between two checks in the start period
    #[arg(long, value_name = "TIME")]
    pub health_start_interval: Option<String>,
    /// How long a check may take
    #[arg(long, value_name = "TIME")]
    pub health_timeout: Option<String>,
    /// Do without the image's health check
    #[arg(long)]
    pub no_healthcheck: bool,
}

impl HealthFlags {
    /// What the user said about health checks, if anything.
    pub fn check(&self) -> anyhow::Result<Option<Check>> {
        let time = |text: &Option<String>, what: &str| match text {
            None => Ok(0),
            Some(text) => parse_duration(text).with_context(|| format!("--health-{what}")),
        };
        let asked = Check {
            test: match self.health_cmd.as_deref() {
                None | Some("") => Vec::new(),
                Some(line) => vec!["CMD-SHELL".to_owned(), line.to_owned()],
            },
            interval: time(&self.health_interval, "interval")?,
            timeout: time(&self.health_timeout, "timeout")?,
            start_period: time(&self.health_start_period, "start-period")?,
            start_interval: time(&self.health_start_interval, "start-interval")?,
            retries: self.health_retries.unwrap_or(0),
        };
        let said = asked != Check::default();
        if self.no_healthcheck {
            if said {
                bail!("--no-healthcheck conflicts with --health-* options");
            }
            let test = vec!["NONE".to_owned()];
            return Ok(Some(Check { test, ..asked }));
        }
        Ok(said.then_some(asked))
    }
}
