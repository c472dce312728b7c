//! `create`: docker's JSON as the configuration that the command line's options make.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use hyper::StatusCode;
use serde_json::json;

use super::asked::{Asked, HostConfig, Mount, Rate, Ulimit};
use super::connect;
use crate::arch::Platform;
use crate::container::cpuset;
use crate::container::create::{self, FromImage};
use crate::container::isolation;
use crate::container::limits::Processors;
use crate::container::mount::MountError;
use crate::container::options;
use crate::container::record::{Bind, Config};
use crate::container::volume::{self, parse_bind};
use crate::image;
use crate::serve::error::ApiError;
use crate::serve::reply::{Reply, json_as};
use crate::serve::request::Call;
use crate::serve::state::{Context, Shared};
use crate::units;

/// Bytes of a disk's sector, to which sizes are rounded.
const SECTOR: u64 = 4096;

/// `POST /containers/create`.
pub async fn create(state: Shared, mut call: Call) -> Reply {
    let asked: Asked = call.json().await?;
    let name = call.query.get("name").map(str::to_owned);
    let platform = call.query.get("platform").map(str::parse::<Platform>);
    let platform = platform
        .transpose()
        .map_err(|error| ApiError::bad(error.to_string()))?;
    let made = state
        .work(move |context| make(context, asked, name.as_deref(), platform.as_ref()))
        .await?;
    let (id, warnings) = made;
    Ok(json_as(
        StatusCode::CREATED,
        &json!({"Id": id, "Warnings": warnings}),
    ))
}

fn make(
    context: &Context,
    asked: Asked,
    name: Option<&str>,
    platform: Option<&Platform>,
) -> Result<(String, Vec<String>), ApiError> {
    let reference = asked.image.clone().filter(|image| !image.is_empty());
    let reference = reference.ok_or_else(|| ApiError::bad("no image given"))?;
    let image = image::get(context, &reference, platform)?;
    let entrypoint = match &asked.entrypoint {
        None => None,
        // As docker's command line says `--entrypoint ""`.
        Some(words) => {
            let words = words.clone().into_list();
            match words.as_slice() {
                [] => None,
                _ => Some(words),
            }
        }
    };
    let (mut config, warnings) = configure(context, asked)?;
    let needed = isolation::of_image(context.settings(), &reference, &image.names);
    config.isolation = config.isolation.strictest(needed);
    let id = image.id.to_string();
    let from = FromImage {
        reference: &reference,
        id: &id,
        platform: image.platform.to_string(),
        config: &image.config,
        raw: &image.raw_config,
    };
    let config = create::configure(config, entrypoint, &from)?;
    let name = name.map(|name| name.trim_start_matches('/'));
    let container = create::create(context, config, name)?;
    Ok((container.id, warnings))
}

/// What was asked for, as far as it does not come from the image; and sentences on what changes
/// nothing.
fn configure(context: &Context, asked: Asked) -> anyhow::Result<(Config, Vec<String>)> {
    let settings = &context.settings().defaults;
    let mut host = asked.host_config.unwrap_or_default();
    let networks = asked.networking_config.unwrap_or_default();
    let network = connect::asked(&host, networks, asked.mac_address.as_deref())?;
    let (binds, tmpfs) = mounts(context, &mut host, asked.volumes.unwrap_or_default())?;
    let mut sysctls = host.sysctls.take().unwrap_or_default();
    if let Some(domain) = asked.domainname.filter(|domain| !domain.is_empty()) {
        sysctls.insert("kernel.domainname".to_owned(), domain);
    }
    let memory = match host.memory.filter(|bytes| *bytes > 0) {
        Some(bytes) => bytes.unsigned_abs(),
        None => match &settings.memory {
            Some(text) => units::parse_bytes(text)?,
            None => options::DEFAULT_MEMORY,
        },
    };
    let stop_timeout = asked.stop_timeout.map(u32::try_from).transpose();
    let mut config = Config {
        cmd: asked
            .cmd
            .map(super::asked::Words::into_list)
            .unwrap_or_default(),
        // As docker: a name without a value is a variable that is to be unset.
        env: asked
            .env
            .unwrap_or_default()
            .into_iter()
            .filter(|variable| variable.contains('='))
            .collect(),
        working_dir: asked.working_dir.unwrap_or_default(),
        user: asked.user.unwrap_or_default(),
        groups: host.group_add.take().unwrap_or_default(),
        hostname: asked.hostname.unwrap_or_default(),
        labels: asked.labels.unwrap_or_default(),
        tty: asked.tty.unwrap_or(false),
        open_stdin: asked.open_stdin.unwrap_or(false),
        stop_signal: asked.stop_signal.filter(|signal| !signal.is_empty()),
        stop_timeout: stop_timeout.context("a stop timeout cannot be negative")?,
        exposed_ports: asked
            .exposed_ports
            .unwrap_or_default()
            .into_keys()
            .collect(),
        engine: settings.engine.clone(),
        emulation: options::emulation(context.settings())?,
        isolation: settings.isolation.unwrap_or_default(),
        memory,
        pids_limit: host.pids_limit,
        read_only: host.readonly_rootfs.unwrap_or(false),
        tmpfs,
        binds,
        cap_add: host.cap_add.take().unwrap_or_default(),
        cap_drop: host.cap_drop.take().unwrap_or_default(),
        privileged: host.privileged.unwrap_or(false),
        init: host.init.unwrap_or(false),
        auto_remove: host.auto_remove.unwrap_or(false),
        shm_size: host
            .shm_size
            .filter(|size| *size > 0)
            .unwrap_or(options::DEFAULT_SHM),
        ulimits: ulimits(host.ulimits.take().unwrap_or_default())?,
        sysctls,
        no_new_privileges: options::no_new_privileges(
            &host.security_opt.take().unwrap_or_default(),
        )?,
        extra_hosts: options::extra_hosts(&host.extra_hosts.take().unwrap_or_default())?,
        dns: host.dns.take().unwrap_or_default(),
        network,
        oom_score_adj: host.oom_score_adj.filter(|score| *score != 0),
        health: asked
            .healthcheck
            .filter(|check| *check != Default::default()),
        restart: restart(&host)?,
        annotations: host.annotations.take().unwrap_or_default(),
        ..Config::default()
    };
    config.processors = processors(&host, settings.cpus)?;
    config.cpus = config.processors.whole()?.unwrap_or(1);
    limits(&host, &mut config)?;
    Ok((config, ignored(&host)))
}

fn restart(host: &HostConfig) -> anyhow::Result<crate::container::restart::Policy> {
    let Some(policy) = &host.restart_policy else {
        return Ok(Default::default());
    };
    let name = policy.name.as_deref().unwrap_or_default();
    Ok(match policy.maximum_retry_count.unwrap_or(0) {
        0 => name.parse()?,
        count => format!("{name}:{count}").parse()?,
    })
}

fn processors(host: &HostConfig, default: Option<f64>) -> anyhow::Result<Processors> {
    let number = |asked: Option<i64>| asked.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    let mut asked = Processors {
        billionths: number(host.nano_cpus),
        period: number(host.cpu_period),
        quota: number(host.cpu_quota),
        shares: number(host.cpu_shares),
        memory_nodes: host.cpuset_mems.clone().filter(|list| !list.is_empty()),
    };
    asked.check()?;
    if let (None, Some(count)) = (asked.time(), default) {
        asked.billionths = Processors::of(count)?.billionths;
    }
    Ok(asked)
}

fn ulimits(asked: Vec<Ulimit>) -> anyhow::Result<Vec<(String, u64, u64)>> {
    let number = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    let limit = |limit: Ulimit| {
        let (soft, hard) = (number(limit.soft), number(limit.hard));
        if soft > hard {
            bail!(
                "ulimit {}: the soft limit is above the hard one",
                limit.name
            );
        }
        Ok((limit.name, soft, hard))
    };
    asked.into_iter().map(limit).collect()
}

fn limits(host: &HostConfig, config: &mut Config) -> anyhow::Result<()> {
    for (option, mode) in [
        ("IpcMode", &host.ipc_mode),
        ("PidMode", &host.pid_mode),
        ("UTSMode", &host.uts_mode),
        ("CgroupnsMode", &host.cgroupns_mode),
    ] {
        options::check_private(option, mode.as_deref())?;
    }
    if host.devices.as_ref().is_some_and(|list| !list.is_empty())
        || host
            .device_requests
            .as_ref()
            .is_some_and(|list| !list.is_empty())
    {
        bail!("devices of the host cannot be given to a guest, which has a kernel of its own");
    }
    let driver = host
        .volume_driver
        .as_deref()
        .filter(|name| !name.is_empty());
    if let Some(driver) = driver.filter(|name| *name != "local") {
        bail!("volume driver {driver:?} is not there, use local");
    }
    if let Some(list) = host.cpuset_cpus.as_ref().filter(|list| !list.is_empty()) {
        cpuset::check(list)?;
        config.cpuset = Some(list.clone());
    }
    for (name, value) in host.storage_opt.iter().flatten() {
        if name != "size" {
            bail!("unknown storage option {name:?}, use size");
        }
        let size = units::parse_bytes(value)?;
        options::check_disk(size)?;
        config.disk_size = Some(size.next_multiple_of(SECTOR));
    }
    if let Some(log) = &host.log_config {
        let kind = log.kind.as_deref().filter(|kind| !kind.is_empty());
        config.no_log = options::no_log(kind)?;
        for (name, value) in log.config.iter().flatten() {
            match name.as_str() {
                "max-size" => config.log_size = Some(units::parse_bytes(value)?),
                "max-file" => {}
                _ => bail!("unknown log option {name:?}, use max-size"),
            }
        }
    }
    let rate = |rates: &Option<Vec<Rate>>| {
        let rates = rates.iter().flatten().map(|rate| rate.rate);
        rates.filter(|rate| *rate > 0).min()
    };
    config.disk_limits = vmm::IoLimits {
        read_bytes: rate(&host.blkio_device_read_bps),
        write_bytes: rate(&host.blkio_device_write_bps),
        reads: rate(&host.blkio_device_read_iops),
        writes: rate(&host.blkio_device_write_iops),
    };
    for (name, place) in [
        (
            "hull.network-receive-bps",
            &mut config.network_limits.received,
        ),
        ("hull.network-send-bps", &mut config.network_limits.sent),
    ] {
        if let Some(rate) = config.annotations.get(name) {
            let rate = units::parse_bytes(rate)?;
            *place = Some(rate).filter(|rate| *rate > 0);
        }
    }
    Ok(())
}

/// Sentences on what docker's cgroups do and a guest's size does not.
fn ignored(host: &HostConfig) -> Vec<String> {
    let some = |number: Option<i64>| number.is_some_and(|number| number != 0);
    let text = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let given = [
        (some(host.memory_reservation), "MemoryReservation"),
        (some(host.memory_swap), "MemorySwap"),
        (text(&host.cgroup_parent), "CgroupParent"),
        (
            host.blkio_weight.is_some_and(|weight| weight > 0),
            "BlkioWeight",
        ),
        (host.oom_kill_disable.unwrap_or(false), "OomKillDisable"),
    ];
    let told = given.iter().filter(|(given, _)| *given);
    told.map(|(_, name)| format!("{name} changes nothing: a guest is limited by its size"))
        .collect()
}

type Mounts = (Vec<Bind>, BTreeMap<String, String>);

fn mounts(
    context: &Context,
    host: &mut HostConfig,
    anonymous: super::asked::Set,
) -> anyhow::Result<Mounts> {
    let binds = host.binds.take().unwrap_or_default();
    let binds = binds.iter().map(|spec| parse_bind(spec, Path::new("/")));
    let mut binds = binds.collect::<Result<Vec<_>, _>>()?;
    let mut tmpfs = host.tmpfs.take().unwrap_or_default();
    for mount in host.mounts.take().unwrap_or_default() {
        match mount.kind.as_deref() {
            Some("tmpfs") => {
                let (target, options) = of_tmpfs(mount)?;
                tmpfs.insert(target, options);
            }
            _ => binds.push(of_bind(mount)?),
        }
    }
    options::refuse_twice(&binds, &tmpfs)?;
    for target in anonymous.keys() {
        let bind = volume::anonymous(target, target)?;
        let taken = binds.iter().any(|other| other.target == bind.target)
            || tmpfs.contains_key(&bind.target);
        if !taken {
            binds.push(bind);
        }
    }
    let others = host.volumes_from.take().unwrap_or_default();
    volume::inherit(context, &others, &mut binds)?;
    Ok((binds, tmpfs))
}

fn target(mount: &Mount) -> anyhow::Result<String> {
    let target = mount.target.clone().filter(|target| !target.is_empty());
    target.context("invalid mount config: a mount needs a Target")
}

fn of_bind(mount: Mount) -> anyhow::Result<Bind> {
    let target = target(&mount)?;
    let mut bind = volume::anonymous(&target, &target)?;
    bind.read_only = mount.read_only.unwrap_or(false);
    let source = mount.source.unwrap_or_default();
    match mount.kind.as_deref() {
        None | Some("" | "volume") => {
            let options = mount.volume_options.unwrap_or_default();
            let driver = options.driver_config.and_then(|driver| driver.name);
            if let Some(driver) = driver.filter(|name| !name.is_empty() && name != "local") {
                bail!("volume driver {driver:?} is not there, use local");
            }
            if options.subpath.is_some_and(|path| !path.is_empty()) {
                bail!("a part of a volume (Subpath) cannot be mounted, mount all of it");
            }
            if options.no_copy.unwrap_or(false) {
                bind.copy_up = false;
            }
            if !source.is_empty() {
                bind.volume = Some(volume::check_name(&source)?);
                bind.anonymous = false;
            }
        }
        Some("bind") => {
            if !source.starts_with('/') {
                bail!("invalid mount path: {source:?} mount path must be absolute");
            }
            let source = volume::normalise(Path::new(&source));
            let options = mount.bind_options.unwrap_or_default();
            if !source.exists() && !options.create_mountpoint.unwrap_or(false) {
                return Err(MountError::NoSource(source).into());
            }
            bind.source = source;
            bind.anonymous = false;
            bind.copy_up = false;
        }
        Some(other) => return Err(MountError::Type(other.to_owned()).into()),
    }
    Ok(bind)
}

fn of_tmpfs(mount: Mount) -> anyhow::Result<(String, String)> {
    let target = target(&mount)?;
    let options = mount.tmpfs_options.unwrap_or_default();
    let mut words = Vec::new();
    if let Some(size) = options.size_bytes.filter(|size| *size > 0) {
        words.push(format!("size={size}"));
    }
    if let Some(mode) = options.mode {
        words.push(format!("mode={mode:o}"));
    }
    if mount.read_only.unwrap_or(false) {
        words.push("ro".to_owned());
    }
    Ok((target, words.join(",")))
}
