//! Memory that a guest no longer uses is the host's again.

use std::fs;

use crate::harness::{Hull, eventually};

const MIB: u64 = 1 << 20;

/// What the machine of a container holds of memory that processes share: its guest's, above all.
/// No process of it has more of the guest's memory than the guest has touched.
fn held(machine: i32) -> u64 {
    let mut processes = vec![machine];
    let mut most = 0;
    while let Some(pid) = processes.pop() {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        processes.extend(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let shared = status
            .lines()
            .find_map(|line| line.strip_prefix("RssShmem:"));
        let kib = shared.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        most = most.max(kib.unwrap_or(0) << 10);
    }
    most
}

#[test]
fn freed_memory_goes_back_to_the_host() {
    let hull = Hull::shared();
    let running = hull.background(&[
        "-m",
        "512m",
        "--tmpfs",
        "/m:size=300m",
        "busybox",
        "sleep",
        "1000",
    ]);
    let machine = hull.field(&running.id, "{{.State.Pid}}").parse().unwrap();
    let fill = "dd if=/dev/zero of=/m/x bs=1M count=200 2>/dev/null";
    hull.ok(&["exec", &running.id, "sh", "-c", fill]);
    let used = held(machine);
    assert!(used > 200 * MIB, "{} MiB", used / MIB);
    hull.ok(&["exec", &running.id, "rm", "/m/x"]);
    // The guest's kernel says so some time later.
    let mut now = used;
    eventually("memory goes back", || {
        now = held(machine);
        now + 180 * MIB < used
    });
    println!(
        "{} MiB with 200 MiB in use, then {} MiB",
        used / MIB,
        now / MIB
    );
    // It can be had again.
    hull.ok(&["exec", &running.id, "sh", "-c", fill]);
    assert!(held(machine) > 200 * MIB);
}
