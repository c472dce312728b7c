//! The part of an OCI runtime specification that the agent acts on.
//!
//! The same JSON as in the [OCI runtime specification](https://github.com/opencontainers/runtime-spec)
//! 1.2, read here without what a guest has no use for: the library with all of it weighs as
//! much as the rest of the agent, and every byte of the agent is unpacked at every boot. The
//! host makes its specifications with that library; members that are not named here are
//! passed over.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container ([config.md](https://github.com/opencontainers/runtime-spec/blob/main/config.md)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Its first process.
    pub process: Option<Process>,
    /// Its root file system.
    pub root: Root,
    /// Its host name; left as it is when absent.
    pub hostname: Option<String>,
    /// What is mounted besides the root: virtual file systems only.
    pub mounts: Vec<Mount>,
    /// The rest.
    pub linux: Linux,
}

/// A root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Whether nobody can write to it.
    pub readonly: bool,
}

/// Something to mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Absolute path in the container; created when missing.
    pub destination: PathBuf,
    /// The file system.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What the file system is told, or just shown.
    pub source: Option<String>,
    /// As in `mount -o`.
    pub options: Vec<String>,
}

/// What exists on Linux only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// Names and values as `sysctl(8)` takes them.
    pub sysctl: BTreeMap<String, String>,
    /// Limits of the container's control group.
    pub resources: Resources,
    /// Device nodes besides those that every container has.
    pub devices: Vec<Device>,
    /// How mounts spread from and to the root, such as `rprivate`.
    pub rootfs_propagation: Option<String>,
    /// Paths that cannot be read.
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    pub readonly_paths: Vec<String>,
}

/// Limits of a control group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Of the number of processes.
    pub pids: Option<Pids>,
    /// Values of files of the group.
    pub unified: BTreeMap<String, String>,
}

/// A limit of the number of processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    /// The most of them; none when 0 or less.
    pub limit: i64,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// Absolute path in the container.
    pub path: PathBuf,
    /// `c` or `u`: character device, `b`: block device, `p`: FIFO.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits; 0666 when absent.
    pub file_mode: Option<u32>,
    /// Owner; root when absent.
    pub uid: Option<u32>,
    /// Group; root's when absent.
    pub gid: Option<u32>,
}

/// A process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Who it runs as.
    pub user: User,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Absolute path of its directory; left as it is when empty.
    pub cwd: PathBuf,
    /// Capability sets; a process without any gets none.
    pub capabilities: Capabilities,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Whether `execve` never grants privileges.
    pub no_new_privileges: bool,
    /// How readily the out-of-memory killer takes it, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

/// Who a process runs as, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Other groups.
    pub additional_gids: Vec<u32>,
    /// File mode creation mask; 022 when absent.
    pub umask: Option<u32>,
}

/// Capability sets, by name: `CAP_CHOWN`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// What the process and its children can have at all.
    pub bounding: Vec<String>,
    /// What counts.
    pub effective: Vec<String>,
    /// What it can make effective.
    pub permitted: Vec<String>,
    /// What can pass through `execve`.
    pub inheritable: Vec<String>,
    /// What passes through `execve` of ordinary programs.
    pub ambient: Vec<String>,
}

/// A resource limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What is limited: `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The limit that counts.
    pub soft: u64,
    /// How far the process can raise it.
    pub hard: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_is_read_and_what_is_unknown_passed_over() {
        let text = r#"{"ociVersion": "1.2.0", "annotations": {"a": "b"}, "hostname": "box",
            "root": {"path": "rootfs", "readonly": true},
            "process": {"terminal": false, "user": {"uid": 1, "gid": 2}, "args": ["sh"], "cwd": "/",
                "capabilities": {"bounding": ["CAP_CHOWN"]}, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]}],
            "linux": {"namespaces": [{"type": "pid"}], "maskedPaths": ["/proc/kcore"], "resources": {"pids": {"limit": 5}}}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        assert!(spec.root.readonly);
        assert_eq!(spec.hostname.as_deref(), Some("box"));
        assert_eq!(spec.mounts[0].kind.as_deref(), Some("proc"));
        assert_eq!(spec.linux.masked_paths, ["/proc/kcore"]);
        assert_eq!(spec.linux.resources.pids, Some(Pids { limit: 5 }));
        let process = spec.process.unwrap();
        assert_eq!((process.user.uid, process.user.gid), (1, 2));
        assert_eq!(process.capabilities.bounding, ["CAP_CHOWN"]);
        assert_eq!((process.rlimits[0].soft, process.rlimits[0].hard), (1, 2));
        assert_eq!(serde_json::from_str::<Spec>("{}").unwrap(), Spec::default());
    }
}
