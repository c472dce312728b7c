//! What of a container's options bounds its machine on the host, beyond the guest's size.

use anyhow::bail;
use serde::{Deserialize, Serialize};
use vmm::{CpuQuota, HostLimits, Machine};

use super::options;
use super::record::Config;

/// Docker's period where nobody says otherwise, in microseconds.
const PERIOD_US: u64 = 100_000;

/// Processor time, as docker's options have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Processors {
    /// `--cpus` in billionths.
    pub billionths: Option<u64>,
    /// `--cpu-period` in microseconds.
    pub period: Option<u64>,
    /// `--cpu-quota` in microseconds.
    pub quota: Option<u64>,
    /// `--cpu-shares`.
    pub shares: Option<u64>,
    /// `--cpuset-mems`.
    pub memory_nodes: Option<String>,
}

impl Processors {
    /// `--cpus` as a number.
    pub fn of(count: f64) -> anyhow::Result<Self> {
        options::whole_cpus(count)?;
        Ok(Self {
            billionths: Some((count * 1e9).round() as u64),
            ..Self::default()
        })
    }

    /// These, changed by what `other` says.
    pub fn changed_by(&self, other: &Self) -> Self {
        // Docker has one way of saying it at a time, the later counts.
        let (billionths, period, quota) = match other {
            Self {
                billionths: Some(_),
                ..
            } => (other.billionths, None, None),
            Self {
                quota: None,
                period: None,
                ..
            } => (self.billionths, self.period, self.quota),
            _ => (
                None,
                other.period.or(self.period),
                other.quota.or(self.quota),
            ),
        };
        Self {
            billionths,
            period,
            quota,
            shares: other.shares.or(self.shares),
            memory_nodes: other.memory_nodes.clone().or(self.memory_nodes.clone()),
        }
    }

    /// Refuses what docker refuses.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.billionths.is_some() && (self.period.is_some() || self.quota.is_some()) {
            bail!("--cpus cannot be used together with --cpu-period and --cpu-quota");
        }
        if let Some(period) = self.period
            && !(1000..=1_000_000).contains(&period)
        {
            bail!("invalid CPU period {period}, give between 1000 and 1000000 microseconds");
        }
        if let Some(quota @ ..1000) = self.quota {
            bail!("invalid CPU quota {quota}, give 1000 microseconds or more");
        }
        if let Some(shares @ ..2) = self.shares {
            bail!("invalid CPU shares {shares}, give 2 or more");
        }
        if let Some(nodes) = &self.memory_nodes {
            super::cpuset::parse(nodes)?;
        }
        Ok(())
    }

    /// The time that it may use, if anybody said.
    pub fn time(&self) -> Option<CpuQuota> {
        match (self.billionths, self.quota) {
            (Some(billionths), _) => Some(CpuQuota::of_billionths(billionths)),
            (None, Some(quota_us)) => Some(CpuQuota {
                quota_us,
                period_us: self.period.unwrap_or(PERIOD_US),
            }),
            (None, None) => None,
        }
    }

    /// The guest's processors for that time: whole ones.
    pub fn whole(&self) -> anyhow::Result<Option<u32>> {
        let Some(time) = self.time() else {
            return Ok(None);
        };
        let count = match self.billionths {
            Some(billionths) => billionths as f64 / 1e9,
            None => time.quota_us as f64 / time.period_us as f64,
        };
        options::whole_cpus(count).map(Some)
    }
}

/// What the machine of a container may use of the host.
pub fn of_host(config: &Config) -> HostLimits {
    let pids = config.pids_limit.is_some_and(|limit| limit > 0);
    let memory = config.memory != options::DEFAULT_MEMORY;
    HostLimits {
        // Who asks for nothing has a guest of the usual size, and nothing around it.
        wanted: memory
            || pids
            || config.cpuset.is_some()
            || config.processors != Processors::default(),
        quota: config.processors.time(),
        shares: config.processors.shares,
        cpus: config.cpuset.clone(),
        memory_nodes: config.processors.memory_nodes.clone(),
        processes: config
            .pids_limit
            .and_then(|limit| u64::try_from(limit).ok())
            .filter(|limit| *limit > 0),
    }
}

/// A sentence on what the user asked for that the host does not keep.
pub fn not_kept(config: &Config, machine: &mut Machine) -> Option<String> {
    if !need_host(config) {
        return None;
    }
    let error = machine.limited().err()?;
    Some(format!(
        "--cpus, --cpu-shares and their like are not kept: {error}"
    ))
}

/// Whether the user asked for something that only the host can keep: a whole number of
/// processors is the guest's own.
fn need_host(config: &Config) -> bool {
    let whole = u64::from(config.cpus) * 1_000_000_000;
    let parts = config.processors.billionths.is_some_and(|n| n != whole);
    let Processors {
        billionths: _,
        period: _,
        quota,
        shares,
        memory_nodes,
    } = &config.processors;
    parts || quota.is_some() || shares.is_some() || memory_nodes.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_what_docker_makes_of_it() {
        let half = Processors::of(0.5).unwrap();
        assert_eq!(half.time().unwrap().quota_us, 50_000);
        assert_eq!(half.whole().unwrap(), Some(1));
        let quota = Processors {
            quota: Some(150_000),
            ..Processors::default()
        };
        assert_eq!(quota.time().unwrap().period_us, 100_000);
        assert_eq!(quota.whole().unwrap(), Some(2));
        assert_eq!(Processors::default().time(), None);
        let both = Processors {
            quota: Some(1000),
            ..half.clone()
        };
        assert!(both.check().is_err() && half.check().is_ok() && quota.check().is_ok());
        for bad in [0.0, -1.0, f64::NAN, 65.0] {
            assert!(Processors::of(bad).is_err());
        }
    }

    #[test]
    fn the_later_way_of_saying_it_counts() {
        let quota = Processors {
            quota: Some(20_000),
            shares: Some(512),
            ..Processors::default()
        };
        let changed = quota.changed_by(&Processors::of(2.0).unwrap());
        assert_eq!((changed.quota, changed.shares), (None, Some(512)));
        let back = changed.changed_by(&quota);
        assert_eq!((back.billionths, back.quota), (None, Some(20_000)));
        assert_eq!(changed.changed_by(&Processors::default()), changed);
    }

    #[test]
    fn whole_processors_need_nothing_of_the_host() {
        let mut config = Config {
            cpus: 2,
            processors: Processors::of(2.0).unwrap(),
            ..Config::default()
        };
        assert!(!need_host(&config));
        config.processors = Processors::of(1.5).unwrap();
        assert!(need_host(&config));
    }
}
