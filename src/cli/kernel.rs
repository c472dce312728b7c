//! `kernel`: guest kernels.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};

use crate::container::assets;
use crate::container::launch::GUESTS;

/// What can be done with guest kernels.
#[derive(Debug, Args)]
pub struct Kernel {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Action {
    /// Build guest kernels from the distribution's source
    Build {
        /// Which kernel
        #[arg(long, value_enum, default_value_t = Target::All)]
        target: Target,
    },
    /// List guest kernels and where they are
    Ls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// User-mode Linux for x86-64 hosts
    Um,
    /// x86-64 machines
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit ARM machines
    Aarch64,
    /// All of them
    All,
}

/// `kernel`.
pub fn run(args: &Kernel) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Build { target } => build(target),
        Action::Ls => {
            list();
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn build(target: Target) -> anyhow::Result<ExitCode> {
    let directories = assets::directories();
    let name = target
        .to_possible_value()
        .map(|v| v.get_name().to_owned())
        .unwrap_or_default();
    // The script and its fragments are of the source tree, or installed beside the kernels.
    let script = directories.iter().flat_map(|directory| {
        let beside = directory.parent().unwrap_or(Path::new("/"));
        [
            beside.join("kernel-config/build"),
            directory.join("kernel-config/build"),
        ]
    });
    let Some(script) = script.into_iter().find(|path| path.exists()) else {
        bail!("kernel-config/build is not there, run hull from its source tree to build kernels");
    };
    let output = directories
        .first()
        .map(|directory| directory.join("kernels"));
    let output: PathBuf = output.context("there is no directory for kernels")?;
    let status = Command::new(&script)
        .args(["--target", &name, "--output"])
        .arg(&output)
        .status()
        .with_context(|| format!("running {}", script.display()))?;
    if !status.success() {
        bail!("building the {name} kernel failed, the lines above say why");
    }
    Ok(ExitCode::SUCCESS)
}

fn list() {
    println!("{:<10}{:<8}{:<18}PATH", "ENGINE", "ARCH", "KERNEL");
    for (engine, arch) in GUESTS {
        let (name, target) = assets::kernel_names(engine, arch);
        let path = match assets::kernel(engine, arch) {
            Ok(path) => path.display().to_string(),
            Err(_) => format!("not built: hull kernel build --target {target}"),
        };
        println!(
            "{:<10}{:<8}{name:<18}{path}",
            engine.as_str(),
            arch.as_str()
        );
    }
}
