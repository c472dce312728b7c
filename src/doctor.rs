//! What this host can run, found out by running it.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use vmm::{EngineKind, GuestArch};

use crate::container::assets;
use crate::container::launch::{self, GUESTS};
use crate::network::probe;
use crate::store::Store;

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Works.
    Works,
    /// Works with a limit, or is not needed.
    Note,
    /// Does not work.
    Fails,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Works => "works",
            Self::Note => "note",
            Self::Fails => "fails",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What.
    pub subject: String,
    /// How good.
    pub verdict: Verdict,
    /// What was found, what it means and what to do: a sentence or two.
    pub explanation: String,
}

impl Finding {
    fn new(subject: impl Into<String>, verdict: Verdict, explanation: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            verdict,
            explanation: explanation.into(),
        }
    }
}

/// Looks at everything, in the order in which hull would choose.
pub fn examine(store: &Store) -> Vec<Finding> {
    let mut findings = vec![kvm(store)];
    findings.extend(GUESTS.iter().map(|&(engine, arch)| guest(engine, arch)));
    findings.push(emulators());
    findings.push(namespaces());
    findings.push(landlock());
    findings.push(tools());
    findings.push(networks(store));
    findings.push(limits());
    findings
}

fn kvm(store: &Store) -> Finding {
    match store.kvm_anew(launch::try_kvm) {
        Ok(finding) => {
            let nested = if is_virtual() {
                " (nested: this host is a virtual machine itself)"
            } else {
                ""
            };
            let isolation = vmm::isolation(EngineKind::Kvm);
            let text = format!("{finding}{nested}; isolation: {isolation}");
            Finding::new("engine kvm", Verdict::Works, text)
        }
        Err(finding) => Finding::new("engine kvm", Verdict::Note, finding),
    }
}

/// Whether the host's CPU says that a hypervisor runs it.
fn is_virtual() -> bool {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = cpus.lines();
    lines.any(|line| {
        line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor")
    })
}

fn guest(engine: EngineKind, arch: GuestArch) -> Finding {
    let subject = format!("engine {engine}, {arch} guest");
    if engine == EngineKind::Uml && std::env::consts::ARCH != "x86_64" {
        return Finding::new(
            subject,
            Verdict::Note,
            "user-mode Linux needs an x86-64 host",
        );
    }
    let (kernel, initramfs) = match (assets::kernel(engine, arch), assets::initramfs(arch)) {
        (Ok(kernel), Ok(initramfs)) => (kernel, initramfs),
        (Err(error), _) | (_, Err(error)) => {
            return Finding::new(subject, Verdict::Fails, error.to_string());
        }
    };
    let probe = vmm::probe(engine, arch, &kernel, &initramfs, None);
    let verdict = if probe.usable {
        Verdict::Works
    } else {
        Verdict::Fails
    };
    let explanation = format!("{}; isolation: {}", probe.finding, probe.isolation);
    Finding::new(subject, verdict, explanation)
}

fn emulators() -> Finding {
    let subject = "programs of other architectures";
    match assets::emulators() {
        Ok(directory) => {
            let is_there = |name: &str| directory.join(name).exists();
            let known = crate::arch::binfmt::TABLE.iter();
            let known = known.map(|row| (row, row.chosen(is_there)));
            let names: Vec<String> = known
                .filter(|(_, chosen)| is_there(chosen))
                .map(|(row, chosen)| match row.better {
                    Some(better) if better == chosen => format!("{} ({better})", row.architecture),
                    _ => row.architecture.to_owned(),
                })
                .collect();
            Finding::new(
                subject,
                Verdict::Works,
                format!("emulators for {}", names.join(", ")),
            )
        }
        Err(error) => Finding::new(subject, Verdict::Fails, error.to_string()),
    }
}

fn namespaces() -> Finding {
    let subject = "jail";
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let forbidden = read("/proc/sys/kernel/unprivileged_userns_clone").trim() == "0"
        || read("/proc/sys/user/max_user_namespaces").trim() == "0";
    if forbidden && !nix::unistd::geteuid().is_root() {
        let text = "this host forbids user namespaces to unprivileged users: set sysctl kernel.unprivileged_userns_clone=1, or run hull as root";
        return Finding::new(subject, Verdict::Fails, text);
    }
    Finding::new(subject, Verdict::Works, "user namespaces are allowed")
}

fn landlock() -> Finding {
    let subject = "landlock";
    match vmm::landlock() {
        0 => {
            let text = "this host's kernel has none: machines go without their second wall";
            Finding::new(subject, Verdict::Note, text)
        }
        version => {
            let text = format!("version {version} is a second wall around machines");
            Finding::new(subject, Verdict::Works, text)
        }
    }
}

fn networks(store: &Store) -> Finding {
    let subject = "networks";
    match probe::probe(store.paths()) {
        Ok(warnings) if warnings.is_empty() => {
            let text = "containers reach each other and the outside";
            Finding::new(subject, Verdict::Works, text)
        }
        Ok(warnings) => Finding::new(subject, Verdict::Note, warnings.join("; ")),
        Err(error) => Finding::new(subject, Verdict::Fails, error.to_string()),
    }
}

fn limits() -> Finding {
    let subject = "limits on the host";
    match vmm::probe_limits() {
        Ok(found) => Finding::new(subject, Verdict::Works, format!("control groups: {found}")),
        Err(error) => {
            let text = format!("a guest is bounded by its size alone: {error}");
            Finding::new(subject, Verdict::Note, text)
        }
    }
}

fn tools() -> Finding {
    let subject = "writable layers";
    let places = [
        "/usr/sbin/mkfs.ext4",
        "/sbin/mkfs.ext4",
        "/usr/bin/mkfs.ext4",
    ];
    if places.iter().any(|place| Path::new(place).exists()) {
        return Finding::new(
            subject,
            Verdict::Works,
            "mkfs.ext4 is there to make the template",
        );
    }
    Finding::new(
        subject,
        Verdict::Fails,
        "mkfs.ext4 is missing: install e2fsprogs",
    )
}
