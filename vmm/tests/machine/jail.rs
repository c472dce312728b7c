//! What a machine's processes are left with, seen from the host.

use std::collections::HashMap;
use std::fs;

use crate::life::processes_named;
use crate::support::{boot, config};

pub const TESTS: &[(&str, fn())] =
    &[("jail::every_process_is_confined", every_process_is_confined)];

/// The fields of a process's status.
fn status(pid: i32) -> HashMap<String, String> {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn every_process_is_confined() {
    let machine = boot(&config("confined"));
    let tree = processes_named("confined");
    assert!(tree.contains(&machine.pid()));
    // The two processes of the VMM and the guest kernel.
    assert!(tree.len() >= 3, "{tree:?}");
    for pid in tree {
        let status = status(pid);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set} of {pid}");
        }
        assert_eq!(status["NoNewPrivs"], "1", "{pid}");
        assert_eq!(status["Seccomp"], "2", "{pid}");
        assert!(
            status["Uid"].split_whitespace().all(|uid| uid != "0"),
            "{}",
            status["Uid"]
        );
        if nix::unistd::getuid().is_root() {
            assert_eq!(status["Groups"], "", "{pid}");
        }
        for kind in ["user", "mnt", "net", "ipc", "uts", "cgroup"] {
            let theirs = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_ne!(theirs, ours, "{kind} namespace of {pid}");
        }
        // Only the first process can see the others of the host, and it does nothing.
        if pid != machine.pid() {
            let theirs = fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
            assert_ne!(theirs, fs::read_link("/proc/self/ns/pid").unwrap());
        }
        let mut names: Vec<_> = fs::read_dir(format!("/proc/{pid}/root"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["boot", "dev", "proc"], "root of {pid}");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        assert_eq!(mounts.lines().count(), 3, "{mounts}");
        let root = mounts
            .lines()
            .find(|line| line.split(' ').nth(4) == Some("/"))
            .unwrap();
        assert!(
            root.split(' ')
                .nth(5)
                .unwrap()
                .starts_with("ro,nosuid,nodev"),
            "{root}"
        );
    }
}
