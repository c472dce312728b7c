//! `doctor`, `info`, `version`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::{format, human};
use crate::arch::dispatch::{self, Question};
use crate::container::Status;
use crate::container::assets;
use crate::container::launch::{self, GUESTS};
use crate::doctor::{self, Verdict};
use crate::system::host;

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `info`.
#[derive(Debug, Args)]
pub struct Info {
    /// A Go template, or json
    #[arg(short, long)]
    format: Option<String>,
}

/// Options of `version`.
#[derive(Debug, Args)]
pub struct Version {
    /// A Go template, or json
    #[arg(short, long)]
    format: Option<String>,
}

/// `doctor`: exit code 1 when no engine works.
pub fn doctor(args: &Doctor, context: &Context) -> anyhow::Result<ExitCode> {
    let findings = doctor::examine(&context.store);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        for finding in &findings {
            println!("{:<7}{}", finding.verdict, finding.subject);
            println!("       {}", finding.explanation);
        }
    }
    let engine_works = findings
        .iter()
        .any(|finding| finding.subject.starts_with("engine") && finding.verdict == Verdict::Works);
    Ok(if engine_works {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `version`.
pub fn version(args: &Version) -> anyhow::Result<ExitCode> {
    let value = json!({
        "Client": {
            "Version": env!("CARGO_PKG_VERSION"),
            "Os": std::env::consts::OS,
            "Arch": dispatch::host_architecture(),
            "AgentProtocol": guest_agent::protocol::VERSION,
        },
    });
    match &args.format {
        Some(template) => format::print_object(template, &value)?,
        None => {
            let client = &value["Client"];
            println!("hull {}", client["Version"].as_str().unwrap_or_default());
            println!(
                " OS/Arch:         {}/{}",
                std::env::consts::OS,
                dispatch::host_architecture()
            );
            println!(" Agent protocol:  {}", guest_agent::protocol::VERSION);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `info`.
pub fn info(args: &Info, context: &Context) -> anyhow::Result<ExitCode> {
    let containers = context.store.containers()?;
    let count = |wanted: &[Status]| {
        let those = containers.iter().map(|c| c.state.status);
        those.filter(|status| wanted.contains(status)).count()
    };
    let running = count(&[Status::Running, Status::Restarting]);
    let paused = count(&[Status::Paused]);
    let stopped = containers.len() - running - paused;
    let on = host::host();
    let images = context.store.images()?.len();
    let host = dispatch::host_architecture();
    let engine = context
        .settings
        .defaults
        .engine
        .as_deref()
        .and_then(|name| name.parse().ok());
    let choice = dispatch::choose(&Question {
        host,
        image: host,
        engine,
        emulation: None,
        isolation: context.settings.defaults.isolation.unwrap_or_default(),
        kvm: launch::kvm(&context.store, engine, None),
    });
    let default_engine = choice.map_or("none", |plan| plan.engine.as_str());
    let kernels: Vec<Value> = GUESTS
        .iter()
        .filter_map(|&(engine, arch)| {
            let path = assets::kernel(engine, arch).ok()?;
            Some(json!({"Engine": engine.as_str(), "Arch": arch.as_str(), "Path": path}))
        })
        .collect();
    let value = json!({
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": images,
        "Driver": "erofs-overlay",
        "DockerRootDir": context.store.paths().root,
        "RunDir": context.store.paths().run,
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
    });
    if let Some(template) = &args.format {
        format::print_object(template, &value)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("Containers: {}", containers.len());
    println!(" Running: {running}");
    println!(" Paused: {paused}");
    println!(" Stopped: {stopped}");
    println!("Images: {images}");
    println!("Server Version: {}", env!("CARGO_PKG_VERSION"));
    println!("Storage Driver: erofs-overlay (EROFS layers, ext4 writable layers)");
    println!("Kernel Version: {}", on.kernel);
    println!("Operating System: {}", on.system);
    println!("OSType: {}", std::env::consts::OS);
    println!("Architecture: {host}");
    println!("CPUs: {}", on.cpus);
    println!("Total Memory: {}", human::binary_size(on.memory));
    println!("Name: {}", on.name);
    println!("Docker Root Dir: {}", context.store.paths().root.display());
    println!("Run Directory: {}", context.store.paths().run.display());
    println!("Engine: {default_engine} (hull doctor probes all)");
    for kernel in &kernels {
        println!(
            "Kernel: {} {} {}",
            kernel["Engine"].as_str().unwrap_or_default(),
            kernel["Arch"].as_str().unwrap_or_default(),
            kernel["Path"].as_str().unwrap_or_default()
        );
    }
    Ok(ExitCode::SUCCESS)
}
