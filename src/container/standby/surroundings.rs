//! What a supervisor has of whoever starts it, so that a guest is taken only by commands with the same.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use crate::container::launch::supervisor_environment;
use crate::image::digest::Digest;

/// Digits of a name: enough to tell surroundings apart.
const NAME_DIGITS: usize = 16;

/// Lines of `/proc/self/status`: user, rights, processors.
const STATUS: [&str; 11] = [
    "Uid:",
    "Gid:",
    "Groups:",
    "CapInh:",
    "CapEff:",
    "CapBnd:",
    "CapAmb:",
    "NoNewPrivs:",
    "Seccomp:",
    "Cpus_allowed:",
    "Mems_allowed:",
];

/// Fields of `/proc/self/stat` behind the name: nice value, real-time priority and policy.
const PRIORITY: [usize; 3] = [16, 37, 38];

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Further files of `/proc/self`.
const FILES: [&str; 5] = [
    "cgroup",
    "limits",
    "oom_score_adj",
    "personality",
    "attr/current",
];

/// What the guest is called that this process may take: its keeper becomes the supervisor, and is in
/// the control group, the namespaces and the session's limits of the command that had it made.
pub(super) fn name() -> String {
    Digest::of(surroundings())
        .hex()
        .chars()
        .take(NAME_DIGITS)
        .collect()
}

fn surroundings() -> Vec<u8> {
    let mut all = Vec::new();
    let mut add = |bytes: &[u8]| {
        all.extend(bytes);
        all.push(0);
    };
    let mut variables: Vec<_> = supervisor_environment().collect();
    variables.sort();
    for (name, value) in variables {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    // What cannot be read is the same for all.
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    for file in FILES {
        add(read(&format!("/proc/self/{file}")).as_bytes());
    }
    for line in read("/proc/self/status").lines() {
        if STATUS.iter().any(|name| line.starts_with(name)) {
            add(line.as_bytes());
        }
    }
    let stat = read("/proc/self/stat");
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    for field in PRIORITY {
        add(fields.get(field).unwrap_or(&"").as_bytes());
    }
    for namespace in NAMESPACES {
        let link = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap_or_default();
        add(link.as_os_str().as_bytes());
    }
    // The root, and the program: another version does not speak with this one.
    for path in ["/", "/proc/self/exe"] {
        if let Ok(file) = fs::metadata(path) {
            add(&file.dev().to_le_bytes());
            add(&file.ino().to_le_bytes());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    #[test]
    fn other_limits_are_other_surroundings() {
        let before = name();
        assert_eq!(before, name());
        assert_eq!(before.len(), NAME_DIGITS);
        // A limit that no test comes near.
        let (soft, hard) = getrlimit(Resource::RLIMIT_STACK).unwrap();
        setrlimit(Resource::RLIMIT_STACK, soft - 4096, hard).unwrap();
        let after = name();
        setrlimit(Resource::RLIMIT_STACK, soft, hard).unwrap();
        assert_ne!(before, after);
    }

    #[test]
    fn priorities_are_where_they_are_expected() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let [nice, real_time, policy] = PRIORITY.map(|field| fields[field].parse::<i64>().unwrap());
        assert!((-20..20).contains(&nice) && (0..100).contains(&real_time));
        assert!((0..8).contains(&policy));
    }
}
