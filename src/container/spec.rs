//! From a container's configuration to the OCI runtime specification its guest gets.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::str::FromStr;

use guest_agent::protocol::runtime;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder,
    LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, Mount, MountBuilder, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::Config;

/// Why a configuration cannot become a specification.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// `--cap-add` or `--cap-drop` names something else.
    #[error("unknown capability {0:?}, use a name of capabilities(7) such as NET_ADMIN, or ALL")]
    UnknownCapability(String),
    /// `--ulimit` names something else.
    #[error("unknown ulimit {0:?}, use a name such as nofile, nproc, core or stack")]
    UnknownUlimit(String),
    /// A value that the specification does not take.
    #[error("the container's settings do not make an OCI runtime specification: {0}")]
    Oci(#[from] OciSpecError),
    /// A value that the agent does not take.
    #[error("the container's settings do not make a specification for the agent: {0}")]
    Agent(#[from] serde_json::Error),
}

/// The search path of a process whose image sets none, docker's.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's default capabilities.
const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

const OTHER_CAPABILITIES: [Capability; 27] = [
    Capability::AuditControl,
    Capability::AuditRead,
    Capability::BlockSuspend,
    Capability::Bpf,
    Capability::CheckpointRestore,
    Capability::DacReadSearch,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Lease,
    Capability::LinuxImmutable,
    Capability::MacAdmin,
    Capability::MacOverride,
    Capability::NetAdmin,
    Capability::NetBroadcast,
    Capability::Perfmon,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysModule,
    Capability::SysNice,
    Capability::SysPacct,
    Capability::SysPtrace,
    Capability::SysRawio,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Syslog,
    Capability::WakeAlarm,
];

const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What of a process can differ between the container's first one and an `exec`.
#[derive(Debug, Clone, Default)]
pub struct ProcessOptions {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `NAME=value` on top of the container's.
    pub env: Vec<String>,
    /// Overrides the container's directory.
    pub working_dir: Option<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// All capabilities, whatever the container has.
    pub privileged: bool,
}

/// What the agent gets of a specification or of a part of one.
fn for_agent<T: DeserializeOwned>(whole: &impl Serialize) -> Result<T, SpecError> {
    Ok(serde_json::from_value(serde_json::to_value(whole)?)?)
}

/// The specification of `config`'s container.
pub fn container_spec(config: &Config) -> Result<runtime::Spec, SpecError> {
    for_agent(&whole_spec(config)?)
}

/// A process of `config`'s container.
pub fn process_spec(
    config: &Config,
    options: &ProcessOptions,
) -> Result<runtime::Process, SpecError> {
    for_agent(&whole_process(config, options)?)
}

fn whole_spec(config: &Config) -> Result<Spec, SpecError> {
    let options = ProcessOptions {
        argv: config.argv(),
        tty: config.tty,
        privileged: config.privileged,
        ..ProcessOptions::default()
    };
    let mut linux = LinuxBuilder::default()
        .resources(resources(config)?)
        .sysctl(
            config
                .sysctls
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect::<HashMap<_, _>>(),
        );
    if config.privileged {
        linux = linux.masked_paths(Vec::new()).readonly_paths(Vec::new());
    } else {
        linux = linux
            .masked_paths(MASKED_PATHS.map(str::to_owned).to_vec())
            .readonly_paths(READONLY_PATHS.map(str::to_owned).to_vec());
    }
    let root = RootBuilder::default()
        .path("/")
        .readonly(config.read_only)
        .build()?;
    let spec = SpecBuilder::default()
        .root(root)
        .hostname(config.hostname.clone())
        .mounts(mounts(config)?)
        .process(whole_process(config, &options)?)
        .linux(linux.build()?)
        .build()?;
    Ok(spec)
}

fn whole_process(config: &Config, options: &ProcessOptions) -> Result<Process, SpecError> {
    let mut env = config.env.clone();
    if options.tty && !config.env.iter().any(|v| v.starts_with("TERM=")) {
        env.insert(0, "TERM=xterm".to_owned());
    }
    env.insert(0, format!("HOSTNAME={}", config.hostname));
    if !config.env.iter().any(|v| v.starts_with("PATH=")) {
        env.insert(0, DEFAULT_PATH.to_owned());
    }
    let env = merge_env(env, &options.env);
    let cwd = options
        .working_dir
        .clone()
        .unwrap_or_else(|| config.working_dir.clone());
    let cwd = if cwd.is_empty() { "/".to_owned() } else { cwd };
    let mut process = ProcessBuilder::default()
        .terminal(options.tty)
        .args(options.argv.clone())
        .env(env)
        .cwd(cwd)
        .capabilities(capabilities(config, options.privileged)?)
        .rlimits(rlimits(&config.ulimits)?)
        .no_new_privileges(config.no_new_privileges);
    if let Some(adjustment) = config.oom_score_adj {
        process = process.oom_score_adj(adjustment);
    }
    Ok(process.build()?)
}

/// `base` with `extra` on top: a later value of a name replaces the earlier one in place.
pub fn merge_env(base: Vec<String>, extra: &[String]) -> Vec<String> {
    let mut merged: Vec<String> = Vec::with_capacity(base.len() + extra.len());
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for variable in base.into_iter().chain(extra.iter().cloned()) {
        let name = variable.split('=').next().unwrap_or_default().to_owned();
        match places.get(&name) {
            Some(&place) => merged[place] = variable,
            None => {
                places.insert(name, merged.len());
                merged.push(variable);
            }
        }
    }
    merged
}

/// A capability as users write it: any case, with or without `CAP_`.
pub fn parse_capability(text: &str) -> Result<String, SpecError> {
    let upper = text.trim().to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if bare == "ALL" || Capability::from_str(bare).is_ok() {
        Ok(bare.to_owned())
    } else {
        Err(SpecError::UnknownCapability(text.to_owned()))
    }
}

fn capabilities(config: &Config, privileged: bool) -> Result<LinuxCapabilities, SpecError> {
    let all = || DEFAULT_CAPABILITIES.into_iter().chain(OTHER_CAPABILITIES);
    let mut set: Capabilities = DEFAULT_CAPABILITIES.into_iter().collect();
    let named = |names: &[String]| -> Result<Vec<Capability>, SpecError> {
        let known = names.iter().filter(|name| *name != "ALL");
        known
            .map(|name| {
                Capability::from_str(name).map_err(|_| SpecError::UnknownCapability(name.clone()))
            })
            .collect()
    };
    if config.cap_add.iter().any(|name| name == "ALL") {
        set = all().collect();
    }
    if config.cap_drop.iter().any(|name| name == "ALL") {
        set.clear();
    }
    set.extend(named(&config.cap_add)?);
    for dropped in named(&config.cap_drop)? {
        set.remove(&dropped);
    }
    if privileged {
        set = all().collect();
    }
    let none = Capabilities::new();
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set)
        .inheritable(none.clone())
        .ambient(none)
        .build()?)
}

fn rlimits(ulimits: &[(String, u64, u64)]) -> Result<Vec<PosixRlimit>, SpecError> {
    let mut limits = Vec::with_capacity(ulimits.len());
    for (name, soft, hard) in ulimits {
        let limit = PosixRlimitBuilder::default()
            .typ(rlimit_type(name)?)
            .soft(*soft)
            .hard(*hard);
        limits.push(limit.build()?);
    }
    Ok(limits)
}

/// The resource that `--ulimit` names.
pub fn rlimit_type(name: &str) -> Result<PosixRlimitType, SpecError> {
    Ok(match name {
        "as" => PosixRlimitType::RlimitAs,
        "core" => PosixRlimitType::RlimitCore,
        "cpu" => PosixRlimitType::RlimitCpu,
        "data" => PosixRlimitType::RlimitData,
        "fsize" => PosixRlimitType::RlimitFsize,
        "locks" => PosixRlimitType::RlimitLocks,
        "memlock" => PosixRlimitType::RlimitMemlock,
        "msgqueue" => PosixRlimitType::RlimitMsgqueue,
        "nice" => PosixRlimitType::RlimitNice,
        "nofile" => PosixRlimitType::RlimitNofile,
        "nproc" => PosixRlimitType::RlimitNproc,
        "rss" => PosixRlimitType::RlimitRss,
        "rtprio" => PosixRlimitType::RlimitRtprio,
        "rttime" => PosixRlimitType::RlimitRttime,
        "sigpending" => PosixRlimitType::RlimitSigpending,
        "stack" => PosixRlimitType::RlimitStack,
        _ => return Err(SpecError::UnknownUlimit(name.to_owned())),
    })
}

fn resources(config: &Config) -> Result<LinuxResources, SpecError> {
    let mut resources = LinuxResourcesBuilder::default();
    if let Some(limit) = config.pids_limit.filter(|limit| *limit > 0) {
        resources = resources.pids(LinuxPidsBuilder::default().limit(limit).build()?);
    }
    Ok(resources.build()?)
}

fn mounts(config: &Config) -> Result<Vec<Mount>, SpecError> {
    let access = if config.privileged { "rw" } else { "ro" };
    let shm = format!("size={}", config.shm_size);
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        )?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        )?,
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", access],
        )?,
        mount(
            "/sys/fs/cgroup",
            "cgroup2",
            "cgroup",
            &["nosuid", "noexec", "nodev", access],
        )?,
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        )?,
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm],
        )?,
    ];
    for (path, options) in &config.tmpfs {
        let mut all = vec!["nosuid", "nodev", "noexec"];
        all.extend(options.split(',').filter(|option| !option.is_empty()));
        mounts.push(mount(path, "tmpfs", "tmpfs", &all)?);
    }
    Ok(mounts)
}

fn mount(path: &str, kind: &str, source: &str, options: &[&str]) -> Result<Mount, SpecError> {
    Ok(MountBuilder::default()
        .destination(PathBuf::from(path))
        .typ(kind)
        .source(PathBuf::from(source))
        .options(
            options
                .iter()
                .map(|&option| option.to_owned())
                .collect::<Vec<_>>(),
        )
        .build()?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn caps(add: &[&str], drop: &[&str], privileged: bool) -> Capabilities {
        let config = Config {
            cap_add: add.iter().map(|&s| s.to_owned()).collect(),
            cap_drop: drop.iter().map(|&s| s.to_owned()).collect(),
            ..Config::default()
        };
        capabilities(&config, privileged)
            .unwrap()
            .bounding()
            .clone()
            .unwrap()
    }

    #[test]
    fn capabilities_follow_dockers_rules() {
        assert_eq!(caps(&[], &[], false).len(), 14);
        assert_eq!(caps(&[], &["ALL"], false).len(), 0);
        assert_eq!(
            caps(&["CHOWN"], &["ALL"], false),
            Capabilities::from([Capability::Chown])
        );
        assert_eq!(caps(&["ALL"], &[], false).len(), 41);
        assert!(!caps(&["ALL"], &["SYS_ADMIN"], false).contains(&Capability::SysAdmin));
        assert_eq!(caps(&[], &["ALL"], true).len(), 41);
        assert_eq!(parse_capability("cap_net_admin").unwrap(), "NET_ADMIN");
        assert!(parse_capability("net_amdin").is_err());
    }

    #[test]
    fn later_environment_wins_in_place() {
        let base = vec!["A=1".to_owned(), "B=2".to_owned()];
        let merged = merge_env(base, &["A=3".to_owned(), "C=4".to_owned()]);
        assert_eq!(merged, ["A=3", "B=2", "C=4"]);
    }

    #[test]
    fn the_specification_carries_the_options() {
        let config = Config {
            cmd: vec!["sh".into()],
            hostname: "box".into(),
            read_only: true,
            tmpfs: BTreeMap::from([("/run".into(), "size=1m".into())]),
            ulimits: vec![("nofile".into(), 10, 20)],
            ..Config::default()
        };
        let spec = container_spec(&config).unwrap();
        assert!(spec.root.readonly);
        assert_eq!(spec.hostname.as_deref(), Some("box"));
        let process = spec.process.unwrap();
        assert_eq!(process.args, ["sh"]);
        assert_eq!(process.cwd, PathBuf::from("/"));
        assert!(process.env.contains(&"HOSTNAME=box".to_owned()));
        let limit = runtime::Rlimit {
            kind: "RLIMIT_NOFILE".to_owned(),
            soft: 10,
            hard: 20,
        };
        assert_eq!(process.rlimits, [limit]);
        assert_eq!(process.capabilities.bounding.len(), 14);
        assert_eq!(process.capabilities.ambient.len(), 0);
        let run = spec
            .mounts
            .iter()
            .find(|mount| mount.destination.as_path() == Path::new("/run"))
            .unwrap();
        assert_eq!(run.kind.as_deref(), Some("tmpfs"));
        assert!(run.options.contains(&"size=1m".to_owned()));
        assert_eq!(spec.linux.masked_paths, MASKED_PATHS);
        assert_eq!(spec.linux.readonly_paths, READONLY_PATHS);
        let wrong = Config {
            ulimits: vec![("files".into(), 1, 1)],
            ..Config::default()
        };
        assert!(matches!(
            whole_spec(&wrong),
            Err(SpecError::UnknownUlimit(_))
        ));
    }
}
