//! `doctor`, `info`, `version`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::format;
use crate::arch::dispatch;
use crate::doctor::{self, Verdict};
use crate::human;
use crate::system::info;

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
    let value = info::value(&context.store, &context.settings)?;
    if let Some(template) = &args.format {
        format::print_object(template, &value)?;
        return Ok(ExitCode::SUCCESS);
    }
    let number = |name: &str| value[name].as_u64().unwrap_or(0);
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    println!("Containers: {}", number("Containers"));
    println!(" Running: {}", number("ContainersRunning"));
    println!(" Paused: {}", number("ContainersPaused"));
    println!(" Stopped: {}", number("ContainersStopped"));
    println!("Images: {}", number("Images"));
    println!("Server Version: {}", text("ServerVersion"));
    println!("Storage Driver: erofs-overlay (EROFS layers, ext4 writable layers)");
    println!("Kernel Version: {}", text("KernelVersion"));
    println!("Operating System: {}", text("OperatingSystem"));
    println!("OSType: {}", text("OSType"));
    println!("Architecture: {}", text("Architecture"));
    println!("CPUs: {}", number("NCPU"));
    println!("Total Memory: {}", human::binary_size(number("MemTotal")));
    println!("Name: {}", text("Name"));
    println!("Docker Root Dir: {}", text("DockerRootDir"));
    println!("Run Directory: {}", text("RunDir"));
    println!("Engine: {} (hull doctor probes all)", text("DefaultEngine"));
    for kernel in value["Kernels"].as_array().into_iter().flatten() {
        println!(
            "Kernel: {} {} {}",
            kernel["Engine"].as_str().unwrap_or_default(),
            kernel["Arch"].as_str().unwrap_or_default(),
            kernel["Path"].as_str().unwrap_or_default()
        );
    }
    Ok(ExitCode::SUCCESS)
}
