//! What hull is set up with, in docker's JSON shape with some of hull's own.

use serde_json::{Value, json};

use super::host;
use crate::arch::dispatch::{self, Question};
use crate::container::launch::{self, GUESTS};
use crate::container::record::now_ns;
use crate::container::{Status, assets};
use crate::settings::Settings;
use crate::store::{Store, StoreError};
use crate::time::rfc3339;

/// Everything that `info` shows.
pub fn value(store: &Store, settings: &Settings) -> Result<Value, StoreError> {
    let containers = store.containers()?;
    let count = |wanted: &[Status]| {
        let those = containers.iter().map(|c| c.state.status);
        those.filter(|status| wanted.contains(status)).count()
    };
    let running = count(&[Status::Running, Status::Restarting]);
    let paused = count(&[Status::Paused]);
    let stopped = containers.len() - running - paused;
    let on = host::host();
    let images = store.images()?.len();
    let host = dispatch::host_architecture();
    let engine = settings
        .defaults
        .engine
        .as_deref()
        .and_then(|name| name.parse().ok());
    let choice = dispatch::choose(&Question {
        host,
        image: host,
        engine,
        emulation: None,
        isolation: settings.defaults.isolation.unwrap_or_default(),
        kvm: launch::kvm(store, engine, None),
    });
    let default_engine = choice.map_or("none", |plan| plan.engine.as_str());
    let kernels: Vec<Value> = GUESTS
        .iter()
        .filter_map(|&(engine, arch)| {
            let path = assets::kernel(engine, arch).ok()?;
            Some(json!({"Engine": engine.as_str(), "Arch": arch.as_str(), "Path": path}))
        })
        .collect();
    let limits = vmm::probe_limits().is_ok();
    let mut value = json!({
        "CPUShares": limits,
        "CgroupDriver": if limits { "cgroupfs" } else { "none" },
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": images,
        "Driver": "erofs-overlay",
        "DockerRootDir": store.paths().root,
        "RunDir": store.paths().run,
        "OSType": std::env::consts::OS,
        "Architecture": host,
        "Name": on.name,
        "OperatingSystem": on.system,
        "KernelVersion": on.kernel,
        "NCPU": on.cpus,
        "MemTotal": on.memory,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "DefaultEngine": default_engine,
        "Kernels": kernels,
        "ID": on.name,
        "SystemTime": rfc3339(now_ns()),
    });
    if let (Value::Object(value), Value::Object(constant)) = (&mut value, constant()) {
        value.extend(constant);
    }
    Ok(value)
}

/// What docker's clients look for and is the same everywhere.
fn constant() -> Value {
    json!({
        "DriverStatus": [["Layers", "EROFS"], ["Writable layers", "ext4"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "none"],
            "Authorization": null,
            "Log": ["json-file", "none"],
        },
        "MemoryLimit": true,
        "SwapLimit": false,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUSet": true,
        "PidsLimit": true,
        "OomKillDisable": false,
        "IPv4Forwarding": true,
        "Debug": false,
        "NFd": 0,
        "NGoroutines": 0,
        "NEventsListener": 0,
        "LoggingDriver": "json-file",
        "CgroupVersion": "2",
        "OSVersion": "",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": [], "Mirrors": []},
        "GenericResources": null,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "ExperimentalBuild": false,
        "Runtimes": {"hull": {"path": "hull"}},
        "DefaultRuntime": "hull",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "hull-agent",
        "SecurityOptions": ["name=machine", "name=no-new-privileges"],
        "Warnings": [],
    })
}
