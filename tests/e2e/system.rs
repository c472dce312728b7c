//! `system`, the prunes, `events`, sizes, and what starts after a reboot.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::harness::{Hull, eventually};

/// A child that ends with the test, however that ends.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_nobody_uses_is_pruned() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let write = "dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null; sync";
    hull.ok(&[
        "run", "--name", "ended", "-l", "kind=old", "busybox", "sh", "-c", write,
    ]);
    hull.ok(&["create", "--name", "fresh", "-v", "/data", "busybox"]);
    let running = hull.background(&["--name", "running", "busybox", "sleep", "1000"]);

    let sizes = hull.ok(&["ps", "-a", "--format", "{{.Names}} {{.Size}}"]);
    let ended = sizes
        .lines()
        .find(|line| line.starts_with("ended"))
        .unwrap();
    let megabytes: f64 = ended
        .split(' ')
        .nth(1)
        .unwrap()
        .trim_end_matches("MB")
        .parse()
        .unwrap();
    assert!(
        (8.0..20.0).contains(&megabytes) && ended.contains("(virtual "),
        "{ended}"
    );
    assert!(
        hull.ok(&["ps", "-as"])
            .lines()
            .next()
            .unwrap()
            .trim()
            .ends_with("SIZE")
    );
    let size: u64 = hull
        .ok(&["inspect", "-s", "-f", "{{.SizeRw}}", "ended"])
        .parse()
        .unwrap();
    assert!(size > 8_000_000);

    let df = hull.ok(&["system", "df"]);
    let rows: Vec<Vec<&str>> = df.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    assert_eq!(rows[1][..3], ["Images", "1", "1"]);
    assert_eq!(rows[2][..3], ["Containers", "3", "1"]);
    assert_eq!(rows[3][..4], ["Local", "Volumes", "1", "1"]);
    let details = hull.ok(&["system", "df", "-v"]);
    for part in [
        "Images space usage:",
        "Containers space usage:",
        "Local Volumes space usage:",
        "ended",
    ] {
        assert!(details.contains(part), "{details}");
    }

    let nothing = hull.ok(&["container", "prune", "-f", "--filter", "label=kind=new"]);
    assert_eq!(nothing, "Total reclaimed space: 0B");
    let asked = hull.feed(&["container", "prune"], b"n\n");
    assert!(asked.stdout.contains("all stopped containers"), "{asked:?}");
    let id = hull.field("ended", "{{.Id}}");
    let pruned = hull.ok(&["container", "prune", "-f", "--filter", "label=kind"]);
    assert!(
        pruned.starts_with(&format!("Deleted Containers:\n{id}\n")),
        "{pruned}"
    );
    assert!(pruned.contains("MB"), "{pruned}");

    hull.ok(&["volume", "create", "--label", "keep=yes", "kept"]);
    hull.ok(&["tag", "busybox", "other"]);
    hull.ok(&["network", "create", "unused"]);
    let everything = hull.ok(&["system", "prune", "-af", "--volumes"]);
    assert!(everything.contains("Deleted Containers:"), "{everything}");
    assert!(everything.contains("Deleted Volumes:"), "{everything}");
    assert!(
        everything.contains("Deleted Networks:\nunused\n"),
        "{everything}"
    );
    assert_eq!(hull.ok(&["ps", "-aq", "--no-trunc"]), running.id);
    assert_eq!(
        hull.ok(&["images", "-q"]).lines().count(),
        1,
        "the running one's stays"
    );
    assert_eq!(hull.ok(&["volume", "ls", "-q"]), "kept");
    let kept = hull.ok(&["volume", "prune", "-af", "--filter", "label!=keep"]);
    assert_eq!(kept, "Total reclaimed space: 0B");
    assert!(
        hull.ok(&["volume", "prune", "-af", "--filter", "label=keep=yes"])
            .contains("kept")
    );
    drop(running);
    let images = hull.ok(&["system", "prune", "-af"]);
    assert!(images.contains("Deleted Images:\nuntagged: "), "{images}");
    assert_eq!(hull.ok(&["images", "-q"]), "");
}

#[test]
fn events_are_followed_as_they_happen() {
    let hull = Hull::fresh();
    let child = hull
        .command(&[
            "events",
            "--since",
            "1m",
            "--format",
            "{{.Type}} {{.Action}}",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Child(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    hull.ok(&["pull", "-q", "busybox"]);
    assert_eq!(next(), "image pull");
    hull.ok(&["volume", "create", "data"]);
    assert_eq!(next(), "volume create");
    let running = hull.background(&["busybox", "sleep", "1000"]);
    assert_eq!([next(), next()], ["container create", "container start"]);
    hull.ok(&["exec", &running.id, "true"]);
    let exec = [next(), next(), next()];
    let expected = ["exec_create: true", "exec_start: true", "exec_die"];
    assert_eq!(exec, expected.map(|action| format!("container {action}")));
    hull.ok(&["rename", &running.id, "renamed"]);
    assert_eq!(next(), "container rename");
    hull.ok(&["stop", "-t", "0", "renamed"]);
    let stop = [next(), next(), next()];
    assert_eq!(stop, ["container kill", "container die", "container stop"]);
    hull.ok(&["rm", "renamed"]);
    assert_eq!(next(), "container destroy");
    hull.ok(&["rmi", "busybox"]);
    let gone = [next(), next(), next()];
    assert_eq!(gone, ["image untag", "image untag", "image delete"]);
    drop(child);

    let past = |arguments: &[&str]| {
        hull.ok(&[&["events", "--since", "1h", "--until", "0s"], arguments].concat())
    };
    let die = past(&["-f", "event=die", "--format", "json"]);
    let die: serde_json::Value = serde_json::from_str(&die).unwrap();
    assert_eq!(die["Actor"]["ID"], running.id);
    assert_eq!(die["Actor"]["Attributes"]["exitCode"], "137");
    assert_eq!(die["from"], "busybox");
    let line = past(&["-f", "type=volume"]);
    assert!(
        line.contains(" volume create data (driver=local)"),
        "{line}"
    );
    assert_eq!(past(&["-f", "container=nothing"]), "");
    let error = hull.fails(&["events", "-f", "colour=red"], 1);
    assert!(error.contains("invalid filter"), "{error}");
}

#[test]
fn policies_start_containers_when_the_host_has_come_up() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let sleep = ["busybox", "sleep", "1000"];
    let start = |name: &str, policy: &str| {
        hull.ok(&[
            &["run", "-d", "--name", name, "--restart", policy],
            &sleep[..],
        ]
        .concat())
    };
    start("always", "always");
    start("unless", "unless-stopped");
    start("stopped", "unless-stopped");
    start("stopped-always", "always");
    start("plain", "no");
    hull.ok(&["stop", "-t", "0", "stopped", "stopped-always"]);
    // The host goes down politely for one, and not at all politely for the rest.
    let supervisor: i32 = hull.field("unless", "{{.SupervisorPid}}").parse().unwrap();
    let pid = nix::unistd::Pid::from_raw(supervisor);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    hull.ok(&["wait", "unless"]);
    let mut gone: Vec<String> = hull
        .ok(&["system", "suspend"])
        .lines()
        .map(str::to_owned)
        .collect();
    gone.sort();
    assert_eq!(gone, ["always", "plain"]);
    assert_eq!(hull.ok(&["ps", "-q"]), "");
    let mut back: Vec<String> = hull
        .ok(&["system", "resume"])
        .lines()
        .map(str::to_owned)
        .collect();
    back.sort();
    assert_eq!(back, ["always", "stopped-always", "unless"]);
    assert_eq!(hull.ok(&["system", "resume"]), "", "they run already");
    assert_eq!(hull.ok(&["exec", "unless", "echo", "up"]), "up");
    let unit = hull.ok(&["system", "unit"]);
    assert!(
        unit.contains("\" system resume\n") && unit.contains("HULL_ROOT="),
        "{unit}"
    );
    for container in hull.ok(&["ps", "-aq"]).lines() {
        hull.ok(&["rm", "-f", container]);
    }
}

#[test]
fn a_supervisor_that_is_asked_to_end_stops_its_container_politely() {
    let hull = Hull::shared();
    let polite = "trap 'echo bye; exit 4' TERM; echo up; while :; do usleep 50000; done";
    let running = hull.background(&["--restart", "unless-stopped", "busybox", "sh", "-c", polite]);
    let id = running.id.as_str();
    eventually("it is up", || hull.ok(&["logs", id]).contains("up"));
    let supervisor: i32 = hull.field(id, "{{.SupervisorPid}}").parse().unwrap();
    let pid = nix::unistd::Pid::from_raw(supervisor);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(hull.ok(&["wait", id]), "4");
    eventually("it is recorded", || {
        hull.field(id, "{{.State.Status}}") == "exited"
    });
    assert!(hull.ok(&["logs", id]).ends_with("bye"));
}

#[test]
fn info_knows_the_host_and_what_runs() {
    let hull = Hull::fresh();
    let info = hull.ok(&[
        "info",
        "-f",
        "{{.Containers}} {{.NCPU}} {{.KernelVersion}} {{.MemTotal}}",
    ]);
    let words: Vec<&str> = info.split(' ').collect();
    assert_eq!(words[0], "0");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(words[2], release.trim());
    assert!(hull.ok(&["info"]).contains("Operating System: "));
    assert_eq!(hull.ok(&["system", "info", "-f", "{{.OSType}}"]), "linux");
}
