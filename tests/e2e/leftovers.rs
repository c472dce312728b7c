//! Whether anything of a state directory's containers is left: for tests of races and crashes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Hull, alive, eventually};

/// Everything of containers is gone: processes, sockets, files, mounts.
#[track_caller]
pub fn none(hull: &Hull) {
    // Whoever opens the store tidies it up.
    hull.ok(&["ps", "-a"]);
    assert_eq!(hull.ok(&["ps", "-aq"]), "");
    let root = hull.root();
    eventually("processes end", || processes(hull).is_empty());
    let ids = ids(hull);
    if !groups(&ids).is_empty() {
        // Whoever starts a machine tidies up behind others.
        hull.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
        eventually("no control group is left", || groups(&ids).is_empty());
        eventually("the last process ends", || processes(hull).is_empty());
    }
    for place in ["containers", "run/containers", "tmp"] {
        eventually(&format!("{place} is empty"), || {
            hull.ok(&["ps", "-a"]);
            entries(&root.join(place)).is_empty()
        });
    }
    let volumes = hull.ok(&["volume", "ls", "-q"]);
    let known: Vec<&str> = volumes.lines().collect();
    let there = entries(&root.join("volumes"));
    assert!(
        there.iter().all(|name| known.contains(&name.as_str())),
        "{there:?}"
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(root.to_str().unwrap()), "{mounts}");
}

fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// The first digits of the ids of all containers that were ever made.
fn ids(hull: &Hull) -> Vec<String> {
    let created = [
        "events",
        "--since",
        "24h",
        "--until",
        "0s",
        "-f",
        "event=create",
        "-f",
        "type=container",
        "--format",
        "{{.Actor.ID}}",
    ];
    let ids = hull.ok(&created);
    ids.lines().map(|id| id[..12].to_owned()).collect()
}

/// The control groups of these containers' machines.
fn groups(ids: &[String]) -> Vec<PathBuf> {
    let mounts = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
    let places = mounts.flatten().map(|entry| entry.path().join("hull"));
    let places = places.chain([PathBuf::from("/sys/fs/cgroup/hull")]);
    let groups = places.flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
    let of_ours = |group: &PathBuf| {
        let name = group.file_name().unwrap_or_default().to_string_lossy();
        ids.iter().any(|id| name.starts_with(id.as_str()))
    };
    groups.map(|group| group.path()).filter(of_ours).collect()
}

/// Supervisors of this state directory and machines of its containers.
pub fn processes(hull: &Hull) -> Vec<(i32, String)> {
    let short = ids(hull);
    let state = format!("HULL_ROOT={}\0", hull.root().display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let read = |name: &str| {
            let bytes = fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        // A machine's first process is a copy of its supervisor; the guest's kernel carries the
        // container's id, or the machine's second process does where the guest waited for it.
        let (command, name) = (read("cmdline"), read("comm"));
        let supervises = command.contains("__supervise") && read("environ").contains(&state);
        let serves = |id: &String| {
            let digits = name
                .trim()
                .strip_prefix("vmm-")
                .or(name.trim().strip_prefix("hull-"));
            digits.is_some_and(|digits| digits.len() >= 10 && id.starts_with(digits))
        };
        let runs = command.starts_with("hull-")
            && short.iter().any(|id| command.contains(id.as_str()))
            || short.iter().any(serves);
        if supervises || runs {
            found.push((pid, command.replace('\0', " ")));
        }
    }
    found
}

/// The processes that keep a guest, which is ready, for the next container of a state directory.
pub fn keepers(hull: &Hull) -> Vec<i32> {
    let root = format!("HULL_ROOT={}\0", hull.root().display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let environment = read("environ");
        if read("comm") == b"hull-standby\n"
            && String::from_utf8_lossy(&environment).contains(&root)
        {
            found.push(pid);
        }
    }
    found.retain(|pid| alive(*pid));
    found
}

/// The processes that hold the networks of a state directory, with their pasta.
pub fn holders(hull: &Hull) -> Vec<i32> {
    let root = hull.root().display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let (line, environment) = (read("cmdline"), read("environ"));
        let has = |bytes: &[u8], text: &str| String::from_utf8_lossy(bytes).contains(text);
        let ours =
            has(&line, "__hold-networks") && has(&environment, &format!("HULL_ROOT={root}\0"));
        if ours || has(&line, &format!("{root}/run/network/namespace/net")) {
            found.push(pid);
        }
    }
    found.retain(|pid| alive(*pid));
    found
}
