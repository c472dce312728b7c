//! What is remembered of a container: who it is, what it was asked to be, how it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::limits::Processors;
use super::state::State;
use super::{health, restart};
use crate::arch::dispatch::Isolation;
use crate::network::record::Asked;

/// One container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its unique name, without docker's leading slash.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// What it was asked to be; only `update` changes it.
    pub config: Config,
    /// How it is; only its supervisor, and repair after a crash, change it.
    pub state: State,
}

/// Everything that the options of `create` and the image decide, resolved.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Config {
    /// The image as the user wrote it.
    pub image: String,
    /// The image's id (digest of its config).
    pub image_id: String,
    /// The image's platform in docker's spelling, `linux/arm64`.
    pub platform: String,
    /// The image's entrypoint or the user's.
    pub entrypoint: Vec<String>,
    /// The arguments after the entrypoint.
    pub cmd: Vec<String>,
    /// `NAME=value`, the image's then the user's.
    pub env: Vec<String>,
    /// Working directory, `/` when nobody said.
    pub working_dir: String,
    /// `USER` of the image or `--user`.
    pub user: String,
    /// `--group-add`.
    pub groups: Vec<String>,
    /// The guest's host name.
    pub hostname: String,
    /// Image's and user's labels.
    pub labels: BTreeMap<String, String>,
    /// A terminal for the first process.
    pub tty: bool,
    /// Standard input stays open (`-i`).
    pub open_stdin: bool,
    /// The signal that `stop` sends first.
    pub stop_signal: Option<String>,
    /// Seconds that `stop` waits.
    pub stop_timeout: Option<u32>,
    /// Ports that the image or the user exposes (`80/tcp`).
    pub exposed_ports: Vec<String>,
    /// `--engine`, when the user chose one.
    pub engine: Option<String>,
    /// `--emulation`.
    pub emulation: Option<Emulation>,
    /// `--isolation`.
    #[serde(default)]
    pub isolation: Isolation,
    /// `--no-jail`: the machine's processes can be debugged, and are not confined.
    #[serde(default)]
    pub no_jail: bool,
    /// Guest memory in bytes.
    pub memory: u64,
    /// Virtual processors.
    pub cpus: u32,
    /// `--pids-limit`.
    pub pids_limit: Option<i64>,
    /// The root file system refuses writes.
    pub read_only: bool,
    /// `--tmpfs`: path and mount options.
    pub tmpfs: BTreeMap<String, String>,
    /// `-v`.
    pub binds: Vec<Bind>,
    /// `--cap-add`, normalised (`NET_ADMIN`, `ALL`).
    pub cap_add: Vec<String>,
    /// `--cap-drop`, normalised.
    pub cap_drop: Vec<String>,
    /// All capabilities, nothing masked.
    pub privileged: bool,
    /// A minimal init as the first process.
    pub init: bool,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--shm-size` in bytes.
    pub shm_size: u64,
    /// `--ulimit`: name, soft, hard.
    pub ulimits: Vec<(String, u64, u64)>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--security-opt no-new-privileges`.
    pub no_new_privileges: bool,
    /// `--add-host`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// Networks and published ports.
    #[serde(default)]
    pub network: Asked,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--log-driver none` keeps no log.
    pub no_log: bool,
    /// `HEALTHCHECK` of the image completed by `--health-*`.
    #[serde(default)]
    pub health: Option<health::Check>,
    /// The image's `SHELL`, for health checks.
    #[serde(default)]
    pub shell: Vec<String>,
    /// `--restart`.
    #[serde(default)]
    pub restart: restart::Policy,
    /// `--cpuset-cpus`.
    #[serde(default)]
    pub cpuset: Option<String>,
    /// `--cpus` to the billionth, `--cpu-quota`, `--cpu-shares` and their like.
    #[serde(default)]
    pub processors: Processors,
    /// `--storage-opt size`: bytes of the writable layer.
    #[serde(default)]
    pub disk_size: Option<u64>,
    /// `--device-read-bps` and its like, for each of the container's disks.
    #[serde(default)]
    pub disk_limits: vmm::IoLimits,
    /// `--network-receive-bps` and `--network-send-bps`, for each of its interfaces.
    #[serde(default)]
    pub network_limits: vmm::RateLimits,
    /// `--log-opt max-size`: bytes of the log's newer half.
    #[serde(default)]
    pub log_size: Option<u64>,
    /// `--annotation`.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// How programs of a foreign architecture run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Emulation {
    /// Each program under qemu-user, the guest's kernel is of the host's architecture.
    User,
    /// A whole machine of that architecture.
    System,
}

/// A host directory or file in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// The volume that it is, if it is one.
    #[serde(default)]
    pub volume: Option<String>,
    /// The volume has no name of the user's and goes with its container.
    #[serde(default)]
    pub anonymous: bool,
    /// An empty volume begins with what the image has there.
    #[serde(default)]
    pub copy_up: bool,
    /// Absolute path in the container.
    pub target: String,
    /// Writes are refused.
    pub read_only: bool,
}

impl Config {
    /// The whole argument list of the first process.
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

impl Container {
    /// The id's first digits.
    pub fn short_id(&self) -> &str {
        super::id::short(&self.id)
    }
}

/// Now, in nanoseconds since the epoch.
pub fn now_ns() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}
