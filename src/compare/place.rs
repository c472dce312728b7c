//! Where a program can run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vmm::EngineKind;

use crate::arch::Platform;

/// How a program is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// As a process of the host that sees the image's files as its root.
    Process,
    /// In a namespace container made by an OCI runtime.
    Container(PathBuf),
    /// In a microVM of this engine.
    Machine(EngineKind),
}

/// One way to run the program, if the host can.
#[derive(Debug, Clone)]
pub struct Place {
    /// A word for it.
    pub id: String,
    /// What it is.
    pub title: String,
    /// What stands between it and the host.
    pub boundary: String,
    /// How.
    pub kind: Option<Kind>,
    /// What the programs are for.
    pub platform: Platform,
    /// Why it cannot be, where that is known beforehand.
    pub why_not: Option<String>,
}

/// The architecture beside the host's that there are machines of.
pub fn other(native: &Platform) -> Platform {
    let other = if native.architecture == "arm64" {
        "amd64"
    } else {
        "arm64"
    };
    Platform::new("linux", other, None)
}

/// All ways, in the order of what they share with the host, then those of the other
/// architecture.
pub fn places(native: &Platform, foreign: Option<&Platform>) -> Vec<Place> {
    let mut places = of_platform(native, "");
    if let Some(foreign) = foreign {
        places.extend(of_platform(foreign, &format!("-{}", foreign.architecture)));
    }
    places
}

fn of_platform(platform: &Platform, suffix: &str) -> Vec<Place> {
    let foreign = !suffix.is_empty();
    let other = match foreign {
        true => format!(", {} programs", platform.architecture),
        false => String::new(),
    };
    let place = |id: &str, title: String, boundary: &str, kind: Option<Kind>| Place {
        id: format!("{id}{suffix}"),
        title: title + &other,
        boundary: boundary.to_owned(),
        why_not: kind
            .is_none()
            .then(|| "neither runc nor crun is installed".to_owned()),
        kind,
        platform: platform.clone(),
    };
    let runtime = find(&["runc", "crun"]);
    let name = runtime.as_ref().and_then(|path| path.file_name());
    let name = name.map_or_else(
        || "runc or crun".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    let mut places = vec![
        place(
            "process",
            "plain process in a chroot".to_owned(),
            "none: a process of the host",
            Some(Kind::Process),
        ),
        place(
            "container",
            format!("namespace container ({name}), which shares the host's kernel"),
            "namespaces and filters of the host's own kernel",
            runtime.map(Kind::Container),
        ),
    ];
    for engine in [EngineKind::Uml, EngineKind::Kvm, EngineKind::Tcg] {
        let title = match (engine, foreign) {
            (EngineKind::Tcg, true) => format!("microVM, {engine}: a whole machine"),
            (_, true) => format!("microVM, {engine}, qemu-user inside"),
            (_, false) => format!("microVM, {engine}"),
        };
        places.push(place(
            &engine.to_string(),
            title,
            vmm::isolation(engine),
            Some(Kind::Machine(engine)),
        ));
    }
    places
}

/// The first of these programs that is installed.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    directories.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut all = names.iter().flat_map(|name| {
        directories
            .iter()
            .map(move |directory| directory.join(name))
    });
    all.find(|file| file.is_file())
}

/// What running in a place takes.
#[derive(Debug)]
pub struct Setting {
    /// The image's files, unpacked; for processes and containers.
    pub rootfs: PathBuf,
    /// Bundles and state of an OCI runtime.
    pub work: PathBuf,
    /// The image's id in the store; for machines.
    pub image: String,
    /// The image's environment.
    pub env: Vec<String>,
    /// The profile that filters a container's system calls.
    pub profile: Option<super::bundle::Profile>,
}

/// A program that is run, and how it ends when it does not by itself.
#[derive(Debug)]
pub struct Start {
    /// What starts it.
    pub command: Command,
    /// What takes away what is left.
    pub clean: Option<Command>,
}

/// What is done with a container.
#[derive(Debug)]
pub struct Container {
    /// Makes it and starts the program.
    pub run: Command,
    /// Makes it.
    pub create: Command,
    /// Starts the program in it.
    pub start: Command,
    /// Takes it away, whatever it does.
    pub clean: Command,
}

impl Place {
    /// What an OCI runtime makes a container of `program` with, what then starts it, and what
    /// takes it away.
    pub fn container(
        &self,
        runtime: &Path,
        setting: &Setting,
        program: &[String],
        number: usize,
    ) -> Result<Container, super::CompareError> {
        let id = format!("hull-compare-{}-{}-{number}", std::process::id(), self.id);
        let bundle = setting.work.join(&id);
        super::bundle::write(
            &bundle,
            &setting.rootfs,
            program,
            &setting.env,
            setting.profile.as_ref(),
        )?;
        let command = |verb: &[&str]| {
            let mut command = Command::new(runtime);
            command.arg("--root").arg(setting.work.join("state"));
            command.args(verb);
            command
        };
        let made = |verb: &str| {
            let mut made = command(&[verb, "--bundle"]);
            made.arg(&bundle).arg(&id);
            made
        };
        let mut clean = command(&["delete", "--force", &id]);
        clean.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Container {
            run: made("run"),
            create: made("create"),
            start: command(&["start", &id]),
            clean,
        })
    }

    /// What runs `program` here. `number` tells it from others at the same time; with `mounts` a
    /// plain process gets the host's `/proc`, `/dev` and `/sys`, as it has without a chroot.
    pub fn start(
        &self,
        kind: &Kind,
        setting: &Setting,
        program: &[String],
        number: usize,
        mounts: bool,
    ) -> Result<Start, super::CompareError> {
        let (command, clean) = match kind {
            Kind::Process => (process(setting, program, mounts), None),
            Kind::Container(runtime) => {
                let container = self.container(runtime, setting, program, number)?;
                (container.run, Some(container.clean))
            }
            Kind::Machine(engine) => (self.machine(*engine, setting, program, &[]), None),
        };
        Ok(Start { command, clean })
    }

    /// `hull run` with the flags that all comparisons have, and some more.
    pub fn machine(
        &self,
        engine: EngineKind,
        setting: &Setting,
        program: &[String],
        flags: &[&str],
    ) -> Command {
        let own = std::env::current_exe().unwrap_or_else(|_| "hull".into());
        let mut command = Command::new(own);
        command.args([
            "run",
            "--rm",
            "--pull",
            "never",
            "--network",
            "none",
            "--platform",
        ]);
        command
            .arg(self.platform.to_string())
            .args(["--engine", &engine.to_string()])
            .args(flags);
        if engine == EngineKind::Tcg && self.platform != Platform::host() {
            command.args(["--emulation", "system"]);
        }
        let (first, rest) = program
            .split_first()
            .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        command
            .args(["--entrypoint", first])
            .arg(&setting.image)
            .args(rest);
        command
    }
}

fn process(setting: &Setting, program: &[String], mounts: bool) -> Command {
    const MOUNT: &str = "for d in proc dev sys; do mount --rbind /$d \"$0/$d\" || exit 1; done; exec chroot \"$0\" \"$@\"";
    let root = nix::unistd::geteuid().is_root();
    let mut command = Command::new(if root && !mounts { "chroot" } else { "unshare" });
    if root && !mounts {
        command.arg(&setting.rootfs);
    } else {
        if !root {
            command.arg("--map-root-user");
        }
        match mounts {
            true => command
                .args(["--mount", "--propagation", "private", "sh", "-c", MOUNT])
                .arg(&setting.rootfs),
            false => command
                .arg("--root")
                .arg(&setting.rootfs)
                .args(["--wd", "/"]),
        };
    }
    command.args(program);
    command
}
