//! What a machine's processes may use of the host, whatever the guest makes of them.
//!
//! A guest's size bounds an honest machine. These bounds are kept by the host's control groups
//! and hold for one that was taken over, too.

use serde::{Deserialize, Serialize};

use crate::EngineKind;
use crate::launch::LaunchSpec;

const MIB: u64 = 1 << 20;

/// The period that processor time is dealt out in where nobody says otherwise, in microseconds.
const PERIOD_US: u64 = 100_000;

/// The most processes of a guest whose own are the host's; its jail has the same limit.
pub(crate) const MOST_PROCESSES: u64 = 32_768;

/// Processes beyond those of the container: the agent's, the guest kernel's, the devices'.
const MORE_PROCESSES: u64 = 128;

/// Processor time in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuQuota {
    /// Microseconds of it that may be used, by all processes and threads together.
    pub quota_us: u64,
    /// Its length in microseconds.
    pub period_us: u64,
}

impl CpuQuota {
    /// So many billionths of a processor.
    pub fn of_billionths(billionths: u64) -> Self {
        Self {
            quota_us: (billionths / (1_000_000_000 / PERIOD_US)).max(MIN_QUOTA_US),
            period_us: PERIOD_US,
        }
    }
}

/// The least that the kernel takes.
const MIN_QUOTA_US: u64 = 1000;

/// What a user asked for beyond the guest's size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLimits {
    /// Whether the host's control groups are to bound it: to move its processes into one makes
    /// the kernel hold up every new process for up to 20 ms, which is half of a guest's start.
    #[serde(default)]
    pub wanted: bool,
    /// Processor time; without it one processor more than the guest has.
    #[serde(default)]
    pub quota: Option<CpuQuota>,
    /// Its share of busy processors, where 1024 is everybody's.
    #[serde(default)]
    pub shares: Option<u64>,
    /// The host's processors that may be used, as in `0-3,5`.
    #[serde(default)]
    pub cpus: Option<String>,
    /// The host's memory nodes that may be used.
    #[serde(default)]
    pub memory_nodes: Option<String>,
    /// The most processes of the container.
    #[serde(default)]
    pub processes: Option<u64>,
}

/// The bounds of one machine, as its control group has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) memory: u64,
    pub(crate) processes: u64,
    pub(crate) quota: CpuQuota,
    pub(crate) shares: Option<u64>,
    pub(crate) cpus: Option<String>,
    pub(crate) memory_nodes: Option<String>,
}

impl Bounds {
    /// Some that every host can keep.
    pub(crate) fn of_a_probe() -> Self {
        Self {
            memory: 1024 * MIB,
            processes: MORE_PROCESSES,
            quota: CpuQuota::of_billionths(1_000_000_000),
            shares: Some(1024),
            cpus: None,
            memory_nodes: None,
        }
    }
}

/// How large a machine is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    engine: EngineKind,
    memory_mib: u32,
    cpus: u32,
}

impl Size {
    pub(crate) fn of(spec: &LaunchSpec) -> Self {
        Self {
            engine: spec.engine,
            memory_mib: spec.memory_mib,
            cpus: spec.cpus,
        }
    }

    /// The bounds of a machine of this size.
    pub(crate) fn bounds(self, asked: &HostLimits) -> Bounds {
        let guest = u64::from(self.memory_mib) * MIB;
        let cpus = u64::from(self.cpus);
        let processes = match self.engine {
            // Each process of the guest is one of the host.
            EngineKind::Uml => asked
                .processes
                .unwrap_or(MOST_PROCESSES)
                .min(MOST_PROCESSES)
                .saturating_add(MORE_PROCESSES),
            EngineKind::Kvm | EngineKind::Tcg => cpus + MORE_PROCESSES,
        };
        Bounds {
            memory: guest.saturating_add(beside(self.engine, guest)),
            processes,
            quota: asked.quota.unwrap_or(CpuQuota {
                quota_us: (cpus + 1) * PERIOD_US,
                period_us: PERIOD_US,
            }),
            shares: asked.shares,
            cpus: asked.cpus.clone(),
            memory_nodes: asked.memory_nodes.clone(),
        }
    }
}

/// What the processes of a machine need beside the guest's memory: their own, the page tables
/// of both, buffers of the host's kernel, and some of the disks' contents.
fn beside(engine: EngineKind, guest: u64) -> u64 {
    match engine {
        EngineKind::Kvm => 64 * MIB + guest / 32,
        // A process of the guest has its page tables on the host.
        EngineKind::Uml => 64 * MIB + guest / 4,
        // QEMU, its libraries, and what it has translated.
        EngineKind::Tcg => 384 * MIB + guest / 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(engine: EngineKind, memory_mib: u32, cpus: u32, asked: &HostLimits) -> Bounds {
        let size = Size {
            engine,
            memory_mib,
            cpus,
        };
        size.bounds(asked)
    }

    #[test]
    fn parts_of_a_processor_are_parts_of_a_period() {
        let half = CpuQuota::of_billionths(500_000_000);
        assert_eq!((half.quota_us, half.period_us), (50_000, 100_000));
        assert_eq!(CpuQuota::of_billionths(1).quota_us, MIN_QUOTA_US);
        assert_eq!(CpuQuota::of_billionths(64_000_000_000).quota_us, 6_400_000);
    }

    #[test]
    fn a_machine_may_use_what_its_guest_has_and_a_little_more() {
        let found = bounds(EngineKind::Uml, 512, 1, &HostLimits::default());
        assert!(found.memory > 512 * MIB && found.memory < 1024 * MIB);
        assert_eq!(found.quota.quota_us, 200_000);
        assert_eq!(found.processes, MOST_PROCESSES + MORE_PROCESSES);
        let asked = HostLimits {
            processes: Some(10),
            quota: Some(CpuQuota::of_billionths(250_000_000)),
            ..HostLimits::default()
        };
        let found = bounds(EngineKind::Uml, 64, 1, &asked);
        assert_eq!((found.processes, found.quota.quota_us), (138, 25_000));
        let found = bounds(EngineKind::Tcg, 64, 2, &asked);
        assert_eq!(found.processes, 2 + MORE_PROCESSES);
    }
}
