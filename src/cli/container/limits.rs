//! Options of `run` and `create` about the host's side: processors, disks, and what means
//! something to docker only.

use anyhow::{Context as _, bail};
use clap::Args;

use crate::container::cpuset;
use crate::container::limits::Processors;
use crate::container::options;
use crate::container::record::Config;
use crate::units;

/// Limits, and what changes nothing here.
#[derive(Debug, Args)]
pub struct LimitFlags {
    #[command(flatten)]
    pub processors: ProcessorFlags,
    /// Most bytes a second that the container receives through each of its interfaces, as in 10m
    #[arg(long, value_name = "RATE")]
    pub network_receive_bps: Option<String>,
    /// Most bytes a second that the container sends through each of its interfaces
    #[arg(long, value_name = "RATE")]
    pub network_send_bps: Option<String>,
    /// Size of the writable layer: size=16g
    #[arg(long, value_name = "size=SIZE")]
    pub storage_opt: Vec<String>,
    /// Most bytes a second that the container reads from a disk, as in /dev/sda:10m; whatever
    /// device is named, the container's own disks are meant
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_read_bps: Vec<String>,
    /// Most reads a second from a disk of the container
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_read_iops: Vec<String>,
    /// Most bytes a second that the container writes to a disk
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_write_bps: Vec<String>,
    /// Most writes a second to a disk of the container
    #[arg(long, value_name = "DEVICE:RATE")]
    pub device_write_iops: Vec<String>,
    /// Options of the log: max-size, after which the older half goes
    #[arg(long, value_name = "NAME=VALUE")]
    pub log_opt: Vec<String>,
    /// A note for inspect
    #[arg(long, value_name = "NAME=VALUE")]
    pub annotation: Vec<String>,
    /// Inter-process communication: only the guest's own, private
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// Processes: only the guest's own, private
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// Host name: only the guest's own, private
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// Control groups: only the guest's own, private
    #[arg(long, value_name = "MODE")]
    pub cgroupns: Option<String>,
    /// Users: always the guest's own
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Driver of volumes: only local
    #[arg(long, value_name = "DRIVER")]
    pub volume_driver: Option<String>,
    #[command(flatten)]
    pub ignored: Ignored,
}

/// Processor time: kept by control groups of the host around the machine's processes.
#[derive(Debug, Args)]
pub struct ProcessorFlags {
    /// Processors: the guest has so many whole ones, and no more time than that
    #[arg(long, value_name = "N")]
    pub cpus: Option<f64>,
    /// Processors of the host that may run the guest, as in 0-3 or 0,2
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes of the host for the guest, as in 0-1
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// With --cpu-quota another way to say --cpus
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,
    /// With --cpu-period another way to say --cpus
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Share of busy processors, beside 1024 of everybody else
    #[arg(short, long, value_name = "N")]
    pub cpu_shares: Option<u64>,
}

impl ProcessorFlags {
    /// What was said.
    pub fn asked(&self) -> anyhow::Result<Processors> {
        let asked = Processors {
            billionths: match self.cpus {
                Some(count) => Processors::of(count)?.billionths,
                None => None,
            },
            period: self.cpu_period.filter(|period| *period > 0),
            // As docker: -1 and 0 are no quota.
            quota: self
                .cpu_quota
                .and_then(|quota| u64::try_from(quota).ok())
                .filter(|quota| *quota > 0),
            shares: self.cpu_shares.filter(|shares| *shares > 0),
            memory_nodes: self.cpuset_mems.clone(),
        };
        asked.check()?;
        Ok(asked)
    }

    /// `--cpuset-cpus`.
    pub fn cpuset(&self) -> anyhow::Result<Option<String>> {
        if let Some(list) = &self.cpuset_cpus {
            cpuset::check(list)?;
        }
        Ok(self.cpuset_cpus.clone())
    }
}

/// Docker's options that change nothing, which is said on the standard error.
#[derive(Debug, Args)]
pub struct Ignored {
    #[command(flatten)]
    pub updates: IgnoredUpdates,
    /// Changes nothing: disks are limited with --device-read-bps and its like
    #[arg(long, value_name = "DEVICE:N")]
    pub blkio_weight_device: Vec<String>,
    /// Changes nothing: the group of a machine is where hull puts it
    #[arg(long, value_name = "GROUP")]
    pub cgroup_parent: Option<String>,
    /// Changes nothing: a guest has no swap
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub memory_swappiness: Option<i64>,
    /// Changes nothing: a guest's kernel has its own memory
    #[arg(long, value_name = "SIZE")]
    pub kernel_memory: Option<String>,
    /// Changes nothing: a guest's kernel kills for lack of memory
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// Changes nothing: there is no content trust
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub disable_content_trust: Option<bool>,
}

impl LimitFlags {
    /// Puts what was said into the configuration; sentences on what changes nothing.
    /// `default_cpus` is what the settings say.
    pub fn apply(
        &self,
        config: &mut Config,
        default_cpus: Option<f64>,
    ) -> anyhow::Result<Vec<String>> {
        for (option, value) in [
            ("--ipc", &self.ipc),
            ("--pid", &self.pid),
            ("--uts", &self.uts),
            ("--cgroupns", &self.cgroupns),
        ] {
            options::check_private(option, value.as_deref())?;
        }
        if let Some(driver) = self.volume_driver.as_deref().filter(|d| *d != "local") {
            bail!("volume driver {driver:?} is not there, use local");
        }
        config.cpuset = self.processors.cpuset()?;
        config.processors = self.processors.asked()?;
        if config.processors.time().is_none()
            && let Some(count) = default_cpus
        {
            config.processors.billionths = Processors::of(count)?.billionths;
        }
        config.cpus = config.processors.whole()?.unwrap_or(1);
        config.network_limits = vmm::RateLimits {
            received: network_rate(self.network_receive_bps.as_deref())?,
            sent: network_rate(self.network_send_bps.as_deref())?,
        };
        for option in &self.storage_opt {
            let size = option.strip_prefix("size=").with_context(|| {
                format!("unknown storage option {option:?}, use size=SIZE, as in size=20g")
            })?;
            let size = units::parse_bytes(size)?;
            options::check_disk(size)?;
            config.disk_size = Some(size.next_multiple_of(4096));
        }
        for option in &self.log_opt {
            match option.split_once('=') {
                Some(("max-size", size)) => config.log_size = Some(units::parse_bytes(size)?),
                // There are always two files, of which the older goes.
                Some(("max-file", count)) if count.parse::<u32>().is_ok_and(|n| n > 0) => {}
                _ => bail!("unknown log option {option:?}, use max-size=SIZE"),
            }
        }
        config.disk_limits = vmm::IoLimits {
            read_bytes: rate(&self.device_read_bps, units::parse_bytes)?,
            write_bytes: rate(&self.device_write_bps, units::parse_bytes)?,
            reads: rate(&self.device_read_iops, count)?,
            writes: rate(&self.device_write_iops, count)?,
        };
        for note in &self.annotation {
            let (name, value) = note.split_once('=').unwrap_or((note, ""));
            config.annotations.insert(name.to_owned(), value.to_owned());
        }
        Ok(self.ignored.sentences())
    }
}

fn network_rate(text: Option<&str>) -> anyhow::Result<Option<u64>> {
    match text.map(units::parse_bytes).transpose()? {
        Some(0) => bail!("invalid network rate 0, give one or more bytes a second, as in 10m"),
        rate => Ok(rate),
    }
}

/// The smallest of the rates in `DEVICE:RATE`.
fn rate(
    specs: &[String],
    parse: impl Fn(&str) -> anyhow::Result<u64>,
) -> anyhow::Result<Option<u64>> {
    let rates = specs.iter().map(|spec| {
        let wrong = || format!("invalid rate {spec:?}, use DEVICE:RATE, as in /dev/sda:10m");
        let (device, rate) = spec.rsplit_once(':').with_context(wrong)?;
        let rate = parse(rate).with_context(wrong)?;
        if !device.starts_with("/dev/") || rate == 0 {
            bail!(wrong());
        }
        Ok(rate)
    });
    let rates = rates.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(rates.into_iter().min())
}

fn count(text: &str) -> anyhow::Result<u64> {
    Ok(text.parse()?)
}

/// Those of them that `update` has too.
#[derive(Debug, Args)]
pub struct IgnoredUpdates {
    /// Changes nothing: a machine gets no real time
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_period: Option<u64>,
    /// Changes nothing: a machine gets no real time
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_runtime: Option<u64>,
    /// Changes nothing: disks are limited with --device-read-bps and its like
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<u16>,
    /// Changes nothing: a guest has the memory of --memory
    #[arg(long, value_name = "SIZE")]
    pub memory_reservation: Option<String>,
    /// Changes nothing: a guest has no swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
}

const REAL_TIME: &str = "a machine gets no real time";
const WEIGHT: &str = "disks are limited with --device-read-bps and its like";
const SWAP: &str = "a guest has no swap";

/// A sentence for each option that was given, of those with a reason.
fn told(options: &[(bool, &str, &str)]) -> Vec<String> {
    let given = options.iter().filter(|(given, _, _)| *given);
    given
        .map(|(_, option, why)| format!("{option} changes nothing: {why}"))
        .collect()
}

impl IgnoredUpdates {
    /// Sentences on what was given.
    pub fn sentences(&self) -> Vec<String> {
        told(&[
            (self.cpu_rt_period.is_some(), "--cpu-rt-period", REAL_TIME),
            (self.cpu_rt_runtime.is_some(), "--cpu-rt-runtime", REAL_TIME),
            (self.blkio_weight.is_some(), "--blkio-weight", WEIGHT),
            (
                self.memory_reservation.is_some(),
                "--memory-reservation",
                "a guest has the memory of --memory",
            ),
            (self.memory_swap.is_some(), "--memory-swap", SWAP),
        ])
    }
}

impl Ignored {
    fn sentences(&self) -> Vec<String> {
        let mut sentences = self.updates.sentences();
        sentences.extend(told(&[
            (
                !self.blkio_weight_device.is_empty(),
                "--blkio-weight-device",
                WEIGHT,
            ),
            (
                self.cgroup_parent.is_some(),
                "--cgroup-parent",
                "the group of a machine is where hull puts it",
            ),
            (
                self.memory_swappiness.is_some(),
                "--memory-swappiness",
                SWAP,
            ),
            (
                self.kernel_memory.is_some(),
                "--kernel-memory",
                "a guest's kernel has its own memory",
            ),
            (
                self.oom_kill_disable,
                "--oom-kill-disable",
                "a guest's kernel kills for lack of memory",
            ),
        ]));
        sentences
    }
}
