//! A container in docker's JSON shape.

mod network;

use serde_json::{Map, Value, json};

use super::limits::Processors;
use super::record::{Config, Container};
use super::state::Status;
use crate::store::Store;
use crate::time::rfc3339_or_zero;

/// Everything about a container, as docker's API has it, with `Engine` on top.
pub fn inspect_value(store: &Store, container: &Container) -> anyhow::Result<Value> {
    let config = &container.config;
    let state = &container.state;
    let argv = config.argv();
    let (path, args) = argv
        .split_first()
        .map_or(("", &argv[..]), |(p, rest)| (p.as_str(), rest));
    let ports: Map<String, Value> = config
        .exposed_ports
        .iter()
        .map(|port| (port.clone(), json!({})))
        .collect();
    let mounts = config.binds.iter().map(|bind| {
        let mut mount = json!({
            "Type": if bind.volume.is_some() { "volume" } else { "bind" },
            "Source": bind.source,
            "Destination": bind.target,
            "Mode": if bind.read_only { "ro" } else { "" },
            "RW": !bind.read_only,
            "Propagation": "rprivate",
        });
        // As docker: a directory of the host has no name.
        if let Some(volume) = &bind.volume {
            mount["Name"] = json!(volume);
            mount["Driver"] = json!("local");
        }
        mount
    });
    let health = state.health.as_ref().map(|health| {
        let log = health.log.iter().map(|outcome| {
            json!({
                "Start": rfc3339_or_zero(outcome.start),
                "End": rfc3339_or_zero(outcome.end),
                "ExitCode": outcome.exit_code,
                "Output": outcome.output,
            })
        });
        json!({
            "Status": health.status.as_str(),
            "FailingStreak": health.failing_streak,
            "Log": log.collect::<Vec<_>>(),
        })
    });
    let directory = store.paths().container_dir(&container.id);
    let mut value = json!({
        "Id": container.id,
        "Created": rfc3339_or_zero(container.created_at),
        "Path": path,
        "Args": args,
        "State": {
            "Status": state.status.as_str(),
            "Running": state.status.is_live(),
            "Paused": state.status == Status::Paused,
            "Restarting": state.status == Status::Restarting,
            "OOMKilled": state.oom_killed,
            "Dead": state.status == Status::Dead,
            "Pid": state.machine,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": rfc3339_or_zero(state.started_at),
            "FinishedAt": rfc3339_or_zero(state.finished_at),
        },
        "Image": config.image_id,
        "LogPath": directory.join("log"),
        "Name": format!("/{}", container.name),
        "RestartCount": state.restart_count,
        "Driver": "erofs-overlay",
        "Platform": "linux",
        "Engine": state.engine,
        "SupervisorPid": state.supervisor,
        "Warnings": state.warnings,
        "HostConfig": host_config(container),
        "Mounts": mounts.collect::<Vec<_>>(),
        "Config": {
            "Hostname": config.hostname,
            "User": config.user,
            "AttachStdin": config.open_stdin,
            "ExposedPorts": ports,
            "Tty": config.tty,
            "OpenStdin": config.open_stdin,
            "Env": config.env,
            "Cmd": config.cmd,
            "Image": config.image,
            "WorkingDir": config.working_dir,
            "Entrypoint": config.entrypoint,
            "Labels": config.labels,
            "StopSignal": config.stop_signal,
            "StopTimeout": config.stop_timeout,
            "Platform": config.platform,
            "Emulation": config.emulation,
            "Isolation": config.isolation,
            "NoJail": config.no_jail,
        },
        "NetworkSettings": network::settings(store, container)?,
    });
    // As in docker, these are there only where there is something to say.
    if let Some(health) = health {
        value["State"]["Health"] = health;
    }
    if let Some(check) = &config.health {
        value["Config"]["Healthcheck"] = serde_json::to_value(check)?;
    }
    Ok(value)
}

/// As docker none where another option says it.
fn nano_cpus(config: &Config) -> u64 {
    let Processors {
        billionths, quota, ..
    } = config.processors;
    let whole = u64::from(config.cpus) * 1_000_000_000;
    billionths.unwrap_or(if quota.is_some() { 0 } else { whole })
}

fn host_config(container: &Container) -> Value {
    let config = &container.config;
    let named = config.binds.iter().filter(|bind| !bind.anonymous);
    let binds = named.map(|bind| {
        let mode = if bind.read_only { ":ro" } else { "" };
        let source = bind.source.display().to_string();
        format!(
            "{}:{}{mode}",
            bind.volume.as_ref().unwrap_or(&source),
            bind.target
        )
    });
    let ulimits = config
        .ulimits
        .iter()
        .map(|(name, soft, hard)| json!({"Name": name, "Soft": soft, "Hard": hard}));
    let rate = |limit: Option<u64>| limit.map(|rate| json!([{"Path": "/dev/vda", "Rate": rate}]));
    let log = match config.log_size {
        Some(size) => json!({"max-size": size.to_string()}),
        None => json!({}),
    };
    json!({
        "Binds": binds.collect::<Vec<_>>(),
        "NetworkMode": if config.network.is_none() { "none" } else { config.network.mode.as_str() },
            "PortBindings": network::port_bindings(container),
            "PublishAllPorts": config.network.publish_all,
            "Links": network::links(container),
        "RestartPolicy": {
            "Name": config.restart.name(),
            "MaximumRetryCount": config.restart.limit(),
        },
        "AutoRemove": config.auto_remove,
        "CapAdd": config.cap_add,
        "CapDrop": config.cap_drop,
        "Privileged": config.privileged,
        "ReadonlyRootfs": config.read_only,
        "Init": config.init,
        "Memory": config.memory,
        "NanoCpus": nano_cpus(config),
        "CpuPeriod": config.processors.period.unwrap_or(0),
        "CpuQuota": config.processors.quota.unwrap_or(0),
        "CpuShares": config.processors.shares.unwrap_or(0),
        "CpusetMems": config.processors.memory_nodes.as_deref().unwrap_or_default(),
        "BlkioDeviceReadBps": rate(config.disk_limits.read_bytes),
        "BlkioDeviceWriteBps": rate(config.disk_limits.write_bytes),
        "BlkioDeviceReadIOps": rate(config.disk_limits.reads),
        "BlkioDeviceWriteIOps": rate(config.disk_limits.writes),
        "NetworkReceiveBps": config.network_limits.received,
        "NetworkSendBps": config.network_limits.sent,
        "CpusetCpus": config.cpuset.as_deref().unwrap_or_default(),
        "PidsLimit": config.pids_limit,
        "ShmSize": config.shm_size,
        "Tmpfs": config.tmpfs,
        "Ulimits": ulimits.collect::<Vec<_>>(),
        "Sysctls": config.sysctls,
        "GroupAdd": config.groups,
        "OomScoreAdj": config.oom_score_adj.unwrap_or(0),
        "LogConfig": {"Type": if config.no_log { "none" } else { "json-file" }, "Config": log},
        "StorageOpt": config.disk_size.map(|size| json!({"size": size.to_string()})),
        "Annotations": config.annotations,
        "ExtraHosts": config.extra_hosts.iter().map(|(n, a)| format!("{n}:{a}")).collect::<Vec<_>>(),
        "Dns": config.dns,
            "DnsSearch": config.network.dns_search,
            "DnsOptions": config.network.dns_options,
    })
}
