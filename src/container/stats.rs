//! What running containers use, measured by their guests.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use guest_agent::protocol::{Task, Usage};

use super::files::{Files, FilesError};
use super::record::Container;
use crate::store::Store;

/// One look at a container.
#[derive(Debug, Clone)]
pub struct Sample {
    usage: Usage,
    at: Instant,
}

/// What a container uses, as `stats` shows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Processor time as a part of one processor's, in percent.
    pub cpu_percent: f64,
    /// Bytes of memory in use.
    pub memory: u64,
    /// Bytes of the guest's memory.
    pub memory_limit: u64,
    /// Bytes received over networks.
    pub received: u64,
    /// Bytes sent over networks.
    pub sent: u64,
    /// Bytes read from disks.
    pub read: u64,
    /// Bytes written to disks.
    pub written: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// What the times of samples count from.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Looks at a running container.
pub fn sample(store: &Store, container: &Container) -> Result<Sample, FilesError> {
    let files = Files::open(store, container)?;
    let usage = files.value(Task::Usage)?;
    LazyLock::force(&BEGIN);
    Ok(Sample {
        usage,
        at: Instant::now(),
    })
}

impl Sample {
    /// Nanoseconds of processor time since the start.
    pub fn cpu_ns(&self) -> u64 {
        self.usage.cpu_us.saturating_mul(1000)
    }

    /// When it was taken, in nanoseconds since a time that is the same for all samples of this
    /// process.
    pub fn time(&self) -> u64 {
        // Not 0, which to docker's clients is no time at all.
        let since = self.at.saturating_duration_since(*BEGIN) + Duration::from_secs(3600);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// What was used between `before` and this look; without one, since the start.
    pub fn since(&self, before: Option<&Self>, container: &Container) -> Stats {
        let (cpu_us, time) = match before {
            Some(before) => (
                self.usage.cpu_us.saturating_sub(before.usage.cpu_us),
                self.at.duration_since(before.at),
            ),
            None => (0, Duration::ZERO),
        };
        let microseconds = time.as_micros() as f64;
        let cpu_percent = match microseconds > 0.0 {
            true => cpu_us as f64 * 100.0 / microseconds,
            false => 0.0,
        };
        Stats {
            cpu_percent,
            memory: self.usage.memory,
            memory_limit: container.config.memory,
            received: self.usage.received,
            sent: self.usage.sent,
            read: self.usage.read,
            written: self.usage.written,
            pids: self.usage.pids,
        }
    }
}

impl Stats {
    /// Memory in use as a part of the guest's, in percent.
    pub fn memory_percent(&self) -> f64 {
        match self.memory_limit {
            0 => 0.0,
            limit => self.memory as f64 * 100.0 / limit as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_one_processor_and_of_the_guests_memory() {
        let container = Container {
            id: String::new(),
            name: String::new(),
            created_at: 0,
            config: crate::container::Config {
                memory: 100 << 20,
                ..Default::default()
            },
            state: Default::default(),
        };
        let begin = Instant::now();
        let sample = |cpu_us, at| Sample {
            usage: Usage {
                cpu_us,
                memory: 25 << 20,
                ..Usage::default()
            },
            at,
        };
        let first = sample(1_000_000, begin);
        let second = sample(2_500_000, begin + Duration::from_secs(1));
        let stats = second.since(Some(&first), &container);
        assert_eq!((stats.cpu_percent, stats.memory_percent()), (150.0, 25.0));
        assert_eq!(first.since(None, &container).cpu_percent, 0.0);
    }
}
