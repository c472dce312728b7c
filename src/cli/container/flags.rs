//! The options of `run` and `create`, and what they mean for a container's configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::super::context::Context;
use super::health::HealthFlags;
use super::limits::LimitFlags;
use super::network_flags::NetworkFlags;
use crate::arch::dispatch::Isolation;
use crate::container::mount::{Mount, parse_mount};
use crate::container::options;
use crate::container::record::{Config, Emulation};
use crate::container::volume::{self, parse_bind};
use crate::units;

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Options that `run` and `create` share.
#[derive(Debug, Args)]
pub struct Flags {
    /// Attach only these streams: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM", value_enum, ignore_case = true)]
    pub attach: Vec<Stream>,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Set an environment variable; without a value, take the host's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User in the container: name or number, with an optional group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Additional group of the user
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// Host name of the container
    #[arg(short = 'h', long)]
    pub hostname: Option<String>,
    /// Platform of the image, as in linux/arm64
    #[arg(long)]
    pub platform: Option<String>,
    /// Put another image's files on top of the image's
    #[arg(long, value_name = "IMAGE")]
    pub with: Vec<String>,
    /// How programs of a foreign architecture run
    #[arg(long)]
    pub emulation: Option<Emulation>,
    /// What executes the guest: kvm, uml or tcg
    #[arg(long)]
    pub engine: Option<vmm::EngineKind>,
    /// Refuse an engine with a weaker boundary
    #[arg(long, value_enum, value_name = "BOUNDARY")]
    pub isolation: Option<Isolation>,
    /// Leave the machine's processes outside of their jail, to debug them
    #[arg(long)]
    pub no_jail: bool,
    /// Memory of the guest, as in 512m or 2g
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Most processes at once
    #[arg(long, value_name = "N")]
    pub pids_limit: Option<i64>,
    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Mount a tmpfs
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Mount a host directory or file
    #[arg(short, long, value_name = "HOST:CONTAINER[:ro]")]
    pub volume: Vec<String>,
    /// Add a capability
    #[arg(long, value_name = "CAP")]
    pub cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAP")]
    pub cap_drop: Vec<String>,
    /// Give all capabilities and mask nothing; the guest's kernel stays the container's own
    #[arg(long)]
    pub privileged: bool,
    /// Run a minimal init that forwards signals and reaps
    #[arg(long)]
    pub init: bool,
    /// When to pull the image: always, missing or never
    #[arg(long, value_name = "WHEN")]
    pub pull: Option<String>,
    /// Say nothing while pulling
    #[arg(short, long)]
    pub quiet: bool,
    /// Set a label
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub label: Vec<String>,
    /// Signal that stop sends
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds that stop waits before SIGKILL
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,
    /// Note that the container serves a port
    #[arg(long, value_name = "PORT[-PORT][/udp]")]
    pub expose: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Set a resource limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Set a kernel parameter of the guest
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Security option: no-new-privileges
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    #[command(flatten)]
    pub network: NetworkFlags,
    /// Make the guest's kernel more or less willing to kill it for lack of memory
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub oom_score_adj: Option<i32>,
    /// Where the log goes: json-file (hull's own file) or none
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// When to start it again: no, on-failure[:MAX], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    #[command(flatten)]
    pub health: HealthFlags,
    #[command(flatten)]
    pub limits: LimitFlags,
    /// Mount a host directory, a volume or a tmpfs: type=bind|volume|tmpfs,source=…,target=…
    #[arg(long, value_name = "MOUNT")]
    pub mount: Vec<String>,
    /// Mount what another container has mounted
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub volumes_from: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<PathBuf>,
    /// Domain name of the container
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// The image, then its command and arguments
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Command and arguments in place of the image's
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<String>,
}

impl Flags {
    /// What the user asked for; the image fills in the rest.
    pub fn config(&self, context: &Context) -> anyhow::Result<Config> {
        let settings = &context.settings;
        let here = std::env::current_dir().context("finding the current directory")?;
        let binds = self.volume.iter().map(|spec| parse_bind(spec, &here));
        let mut binds = binds.collect::<Result<Vec<_>, _>>()?;
        let tmpfs = self.tmpfs.iter().map(|spec| split(spec, ':'));
        let mut tmpfs: BTreeMap<_, _> = tmpfs.collect();
        for spec in &self.mount {
            match parse_mount(spec, &here)? {
                Mount::Bind(bind) => binds.push(bind),
                Mount::Tmpfs(target, options) => drop(tmpfs.insert(target, options)),
            }
        }
        options::refuse_twice(&binds, &tmpfs)?;
        volume::inherit(&context.store, &self.volumes_from, &mut binds)?;
        let mut sysctls = pairs(&self.sysctl);
        if let Some(domain) = &self.domainname {
            sysctls.insert("kernel.domainname".to_owned(), domain.clone());
        }
        let memory = self.memory.as_ref().or(settings.defaults.memory.as_ref());
        let mut config = Config {
            cmd: self.command.clone(),
            env: self.environment()?,
            working_dir: self.workdir.clone().unwrap_or_default(),
            user: self.user.clone().unwrap_or_default(),
            groups: self.group_add.clone(),
            hostname: self.hostname.clone().unwrap_or_default(),
            labels: self.labels()?,
            tty: self.tty,
            open_stdin: self.interactive,
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
            exposed_ports: self.expose.clone(),
            engine: match self.engine {
                Some(engine) => Some(engine.to_string()),
                None => settings.defaults.engine.clone(),
            },
            emulation: self.emulation.or(options::emulation(settings)?),
            isolation: self
                .isolation
                .or(settings.defaults.isolation)
                .unwrap_or_default(),
            no_jail: self.no_jail,
            memory: memory.map_or(Ok(options::DEFAULT_MEMORY), |text| units::parse_bytes(text))?,
            pids_limit: self.pids_limit,
            read_only: self.read_only,
            tmpfs,
            binds,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            privileged: self.privileged,
            init: self.init,
            auto_remove: self.rm,
            shm_size: self
                .shm_size
                .as_ref()
                .map_or(Ok(options::DEFAULT_SHM), |s| units::parse_bytes(s))?,
            ulimits: self
                .ulimit
                .iter()
                .map(|spec| ulimit(spec))
                .collect::<Result<_, _>>()?,
            sysctls,
            no_new_privileges: options::no_new_privileges(&self.security_opt)?,
            extra_hosts: self.network.extra_hosts()?,
            dns: self.network.dns(),
            network: self.network.asked()?,
            oom_score_adj: self.oom_score_adj,
            no_log: options::no_log(self.log_driver.as_deref())?,
            health: self.health.check()?,
            restart: self.restart.as_deref().unwrap_or_default().parse()?,
            ..Config::default()
        };
        for sentence in self.limits.apply(&mut config, settings.defaults.cpus)? {
            eprintln!("hull: {sentence}");
        }
        Ok(config)
    }

    fn labels(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut labels = BTreeMap::new();
        for path in &self.label_file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("reading the label file {}", path.display()))?;
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            labels.extend(lines.map(|line| split(line, '=')));
        }
        labels.extend(pairs(&self.label));
        Ok(labels)
    }

    /// `--entrypoint`, which replaces the image's even when it is empty.
    pub fn entrypoint(&self) -> Option<Vec<String>> {
        self.entrypoint.clone().map(|program| vec![program])
    }

    fn environment(&self) -> anyhow::Result<Vec<String>> {
        let mut variables = Vec::new();
        for path in &self.env_file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("reading the environment file {}", path.display()))?;
            let lines = text.lines().map(str::trim_start);
            variables.extend(
                lines
                    .filter(|l| !l.is_empty() && !l.starts_with('#'))
                    .map(str::to_owned),
            );
        }
        variables.extend(self.env.iter().cloned());
        Ok(variables.into_iter().filter_map(from_host).collect())
    }
}

/// `NAME` alone takes the host's value, and is dropped when the host has none.
pub fn from_host(variable: String) -> Option<String> {
    if variable.contains('=') || variable.is_empty() {
        return Some(variable);
    }
    std::env::var(&variable)
        .ok()
        .map(|value| format!("{variable}={value}"))
}

fn pairs(specs: &[String]) -> BTreeMap<String, String> {
    specs.iter().map(|spec| split(spec, '=')).collect()
}

fn split(spec: &str, separator: char) -> (String, String) {
    let (name, value) = spec.split_once(separator).unwrap_or((spec, ""));
    (name.to_owned(), value.to_owned())
}

/// `NAME=SOFT[:HARD]`.
pub fn ulimit(spec: &str) -> anyhow::Result<(String, u64, u64)> {
    let wrong = || format!("invalid ulimit {spec:?}, use NAME=SOFT[:HARD]");
    let number = |text: &str| match text {
        "-1" | "unlimited" => Some(u64::MAX),
        text => text.parse().ok(),
    };
    let (name, values) = spec.split_once('=').with_context(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = number(soft).zip(number(hard)).with_context(wrong)?;
    if soft > hard {
        bail!("invalid ulimit {spec:?}: the soft limit is above the hard one");
    }
    Ok((name.to_owned(), soft, hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        assert_eq!(ulimit("nofile=10:20").unwrap(), ("nofile".into(), 10, 20));
        assert_eq!(ulimit("core=-1").unwrap().1, u64::MAX);
        for bad in ["nofile", "nofile=", "nofile=x", "nofile=3:2"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_without_a_value_come_from_the_host() {
        assert_eq!(from_host("A=1".into()), Some("A=1".into()));
        assert_eq!(from_host("HULL_SURELY_UNSET".into()), None);
        assert!(from_host("PATH".into()).unwrap().starts_with("PATH="));
    }
}
