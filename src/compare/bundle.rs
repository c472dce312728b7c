//! Bundles for OCI runtimes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxSeccomp, Process, Root, Spec};
use serde_json::{Value, json};

use super::CompareError;

/// Where distributions keep the profile that podman and docker filter system calls with.
const PROFILES: [&str; 2] = [
    "/etc/containers/seccomp.json",
    "/usr/share/containers/seccomp.json",
];

/// A profile and what of it holds for a container without further rights.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its file.
    pub file: PathBuf,
    seccomp: Value,
    /// The names that it allows.
    pub allowed: BTreeSet<String>,
}

impl Profile {
    /// The one that is installed here.
    pub fn find() -> Option<Self> {
        PROFILES.iter().find_map(|file| Self::read(Path::new(file)))
    }

    fn read(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        Self::parse(file, &serde_json::from_str(&text).ok()?)
    }

    /// Turns the form with conditions into the runtime specification's.
    pub(super) fn parse(file: &Path, value: &Value) -> Option<Self> {
        let arch = if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        };
        let empty = Vec::new();
        let has = |rule: &Value, side: &str, key: &str| {
            rule[side][key]
                .as_array()
                .is_some_and(|list| !list.is_empty())
        };
        let here = |rule: &Value, side: &str| {
            rule[side]["arches"]
                .as_array()
                .is_some_and(|list| list.contains(&json!(arch)))
        };
        let mut rules = Vec::new();
        let mut allowed = BTreeSet::new();
        for rule in value["syscalls"].as_array()? {
            // What needs a capability that is not given is left out, and so on.
            let wanted = !has(rule, "includes", "caps")
                && (!has(rule, "includes", "arches") || here(rule, "includes"))
                && !here(rule, "excludes");
            if !wanted {
                continue;
            }
            let names: Vec<&str> = rule["names"]
                .as_array()
                .unwrap_or(&empty)
                .iter()
                .filter_map(Value::as_str)
                .collect();
            if rule["action"] == "SCMP_ACT_ALLOW" {
                allowed.extend(names.iter().map(|name| (*name).to_owned()));
            }
            let mut kept = json!({"names": names, "action": rule["action"]});
            for key in ["args", "errnoRet"] {
                let given = &rule[key];
                if !given.is_null() && given.as_array().is_none_or(|list| !list.is_empty()) {
                    kept[key] = given.clone();
                }
            }
            rules.push(kept);
        }
        let mut seccomp = json!({"defaultAction": value["defaultAction"], "syscalls": rules});
        if let Some(number) = value["defaultErrnoRet"].as_u64() {
            seccomp["defaultErrnoRet"] = json!(number);
        }
        Some(Self {
            file: file.to_owned(),
            seccomp,
            allowed,
        })
    }
}

/// Writes a bundle that runs `program` in `rootfs`.
pub fn write(
    directory: &Path,
    rootfs: &Path,
    program: &[String],
    env: &[String],
    profile: Option<&Profile>,
) -> Result<(), CompareError> {
    let mut spec = match nix::unistd::geteuid().is_root() {
        true => Spec::default(),
        false => Spec::rootless(
            nix::unistd::getuid().as_raw(),
            nix::unistd::getgid().as_raw(),
        ),
    };
    let mut root = Root::default();
    root.set_path(rootfs.to_owned());
    root.set_readonly(Some(false));
    spec.set_root(Some(root));
    let mut process = spec.process().clone().unwrap_or_else(Process::default);
    process.set_args(Some(program.to_vec()));
    process.set_terminal(Some(false));
    process.set_env(Some(env.to_vec()));
    spec.set_process(Some(process));
    spec.set_hostname(Some("compare".to_owned()));
    let seccomp = profile
        .and_then(|profile| serde_json::from_value::<LinuxSeccomp>(profile.seccomp.clone()).ok());
    if let (Some(seccomp), Some(mut linux)) = (seccomp, spec.linux().clone()) {
        linux.set_seccomp(Some(seccomp));
        spec.set_linux(Some(linux));
    }
    let made = fs::create_dir_all(directory);
    made.map_err(|cause| CompareError::io("cannot make", directory, cause))?;
    let file = directory.join("config.json");
    let text = serde_json::to_vec(&spec).unwrap_or_default();
    fs::write(&file, text).map_err(|cause| CompareError::io("cannot write", file, cause))
}
