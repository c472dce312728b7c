use std::path::Path;

use serde_json::json;

use super::bundle::Profile;
use super::report::{Figure, sights, spread};
use super::run::call_name;
use super::{report, timeline};

#[test]
fn spreads_are_of_what_was_measured() {
    assert_eq!(spread(&[]), None);
    assert_eq!(spread(&[3.0]), Some((3.0, 3.0, 3.0)));
    assert_eq!(spread(&[5.0, 1.0, f64::NAN, 3.0]), Some((1.0, 3.0, 5.0)));
    assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some((1.0, 2.5, 4.0)));
    let figures = Figure::all(|id| {
        if id == "cpu_ns" {
            vec![2.0, 1.0]
        } else {
            Vec::new()
        }
    });
    assert_eq!(figures.len(), 1);
    assert_eq!((figures[0].id, figures[0].median), ("cpu_ns", 1.5));
}

#[test]
fn what_is_seen_is_the_hosts_only_with_the_hosts_kernel() {
    let host = json!({"kernel": "6.1 #1", "boot": "abc", "processes": 200, "kernel_log": 9000, "memory_kb": 1000, "devices": 50, "block_devices": 3, "command_line": "root=x", "mounts": ["8:1 ext4", "0:5 proc"]});
    let of_host = |seen: &serde_json::Value| -> Vec<&'static str> {
        sights(seen, &host)
            .into_iter()
            .filter(|sight| sight.of_host)
            .map(|sight| sight.name)
            .collect()
    };
    assert_eq!(of_host(&host).len(), 9);
    let mut container = host.clone();
    container["processes"] = json!(1);
    container["devices"] = json!(12);
    container["kernel_log"] = json!(null);
    container["mounts"] = json!(["0:77 proc", "8:1 ext4"]);
    let seen = of_host(&container);
    assert!(
        ["kernel", "memory in kB", "mounts"]
            .iter()
            .all(|name| seen.contains(name)),
        "{seen:?}"
    );
    assert!(
        !seen.contains(&"processes") && !seen.contains(&"names in /dev"),
        "{seen:?}"
    );
    let machine = json!({"kernel": "6.12 #1", "boot": "def", "processes": 30, "kernel_log": 9000, "memory_kb": 1000, "devices": 50, "mounts": ["0:5 proc"]});
    assert!(of_host(&machine).is_empty());
    assert_eq!(report::sights(&json!({}), &host)[0].value, "nothing");
}

#[test]
fn the_steps_of_a_boot_are_read() {
    let text = "hull: warning: x\nboot:     0.010 ms  the description is there\nboot:     3.500 ms  the guest begins\nboot:    10.000 ms  the agent is ready\nboot: no exits: y\nboot: 1.000 ms CPU of its own\n";
    let steps = timeline::steps(text);
    let told: Vec<_> = steps
        .iter()
        .map(|(name, ms)| (name.as_str(), (ms * 1000.0).round()))
        .collect();
    assert_eq!(
        told,
        [
            ("the description is there", 10.0),
            ("the guest begins", 3490.0),
            ("the agent is ready", 6500.0)
        ]
    );
}

#[test]
fn a_profile_holds_without_capabilities() {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}, "excludes": {}},
            {"names": ["mount", "bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "includes": {}, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["s390_pci_mmio_read"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}, "excludes": {}},
        ],
    });
    let profile = Profile::parse(Path::new("/p"), &profile).unwrap();
    let allowed: Vec<&str> = profile.allowed.iter().map(String::as_str).collect();
    assert_eq!(allowed, ["read", "write"]);
}

#[test]
fn symbols_are_system_calls() {
    assert_eq!(
        call_name("0000000000000000 T __x64_sys_read").as_deref(),
        Some("read")
    );
    assert_eq!(
        call_name("0000000000000000 T __arm64_sys_newfstat").as_deref(),
        Some("fstat")
    );
    assert_eq!(call_name("0000000000000000 T __ia32_sys_read"), None);
    assert_eq!(call_name("0000000000000000 T __x64_sys_ni_syscall"), None);
}
