//! What a machine's processes are left with, seen from the host.

use std::collections::HashMap;
use std::fs;

use crate::life::processes_named;
use vmm::DirShare;

use crate::support::{boot, config};

pub const TESTS: &[(&str, fn())] = &[
    ("jail::every_process_is_confined", every_process_is_confined),
    (
        "jail::the_process_of_shares_reaches_nothing_else",
        the_process_of_shares_reaches_nothing_else,
    ),
];

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
        assert_eq!(names, ["dev", "proc"], "root of {pid}");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        assert_eq!(mounts.lines().count(), 2, "{mounts}");
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

fn the_process_of_shares_reaches_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config("confined-shares");
    config.shares = vec![DirShare {
        tag: "data".to_owned(),
        source: directory.path().to_owned(),
        read_only: true,
    }];
    let _machine = boot(&config);
    let own: Vec<_> = processes_named("confined-shares")
        .into_iter()
        .filter(|pid| status(*pid)["CapEff"] != "0000000000000000")
        .collect();
    let [pid] = own[..] else { panic!("{own:?}") };
    let status = status(pid);
    // Owners, modes and set-id bits of files, and nothing else.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status[set], "00000000800000db", "{set}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Seccomp"], "2");
    for kind in ["mnt", "net", "ipc", "uts", "cgroup"] {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_ne!(
            theirs,
            fs::read_link(format!("/proc/self/ns/{kind}")).unwrap(),
            "{kind}"
        );
    }
    let mut names: Vec<_> = fs::read_dir(format!("/proc/{pid}/root"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["0", "proc"]);
    // Of /proc only its own descriptors.
    let own = fs::read_dir(format!("/proc/{pid}/root/proc/self"))
        .unwrap()
        .count();
    assert_eq!(own, 1);
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    for line in mounts.lines() {
        assert!(
            line.split(' ')
                .nth(5)
                .unwrap()
                .starts_with("ro,nosuid,nodev"),
            "{line}"
        );
    }
    // No file of the machine's, only its own sockets and the directory.
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        assert!(
            !target.to_string_lossy().contains("initramfs"),
            "{}",
            target.display()
        );
    }
}
