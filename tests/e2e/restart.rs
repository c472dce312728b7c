//! Restart policies, pausing, and changing a container that exists.

use std::os::unix::fs::MetadataExt;

use crate::harness::{Hull, alive, eventually};

fn pid(hull: &Hull, id: &str, field: &str) -> i32 {
    let text = hull.field(id, &format!("{{{{.{field}}}}}"));
    text.parse().unwrap()
}

#[test]
fn on_failure_restarts_as_often_as_it_may() {
    let hull = Hull::shared();
    let count = "echo run >> /runs; echo started; exit 3";
    let running = hull.background(&["--restart", "on-failure:2", "busybox", "sh", "-c", count]);
    let id = running.id.as_str();
    eventually("the last run ends", || {
        hull.field(id, "{{.State.Status}} {{.RestartCount}}") == "exited 2"
    });
    assert_eq!(hull.field(id, "{{.State.ExitCode}}"), "3");
    assert_eq!(hull.ok(&["logs", id]).lines().count(), 3, "three runs");
    let policy =
        "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(hull.field(id, policy), "on-failure 2");
    let events = hull.ok(&[
        "events",
        "--since",
        "10m",
        "--until",
        "0s",
        "-f",
        &format!("container={id}"),
        "--format",
        "{{.Action}}",
    ]);
    let expected = "create start die start die start die";
    assert_eq!(events.split('\n').collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn a_success_is_not_restarted_on_failure_but_always() {
    let hull = Hull::shared();
    let once = hull.background(&["--restart", "on-failure", "busybox", "true"]);
    eventually("it ends", || {
        hull.field(&once.id, "{{.State.Status}}") == "exited"
    });
    assert_eq!(hull.field(&once.id, "{{.RestartCount}}"), "0");

    let always = hull.background(&["--restart", "always", "busybox", "true"]);
    eventually("it is restarted twice", || {
        pid(&hull, &always.id, "RestartCount") >= 2
    });
    hull.ok(&["stop", "-t", "0", &always.id]);
    assert_eq!(hull.field(&always.id, "{{.State.Status}}"), "exited");
    let supervisor = pid(&hull, &always.id, "SupervisorPid");
    assert_eq!(supervisor, 0);
}

#[test]
fn between_two_runs_it_is_restarting_and_can_be_stopped_and_removed() {
    let hull = Hull::shared();
    for end in [&["stop"][..], &["kill"], &["rm", "-f"]] {
        let running = hull.background(&["--restart", "always", "busybox", "false"]);
        let id = running.id.as_str();
        // The waits double, so that sooner or later one is long enough to be seen.
        eventually("it waits", || {
            hull.field(id, "{{.State.Status}} {{.State.Restarting}}") == "restarting true"
        });
        eventually("it is ended", || hull.run(&[end, &[id]].concat()).code == 0);
        let state = hull.run(&["inspect", "-f", "{{.State.Status}}", id]);
        if end[0] == "rm" {
            assert_eq!(state.code, 1);
        } else {
            assert_eq!(state.stdout.trim(), "exited");
        }
    }
}

#[test]
fn a_lost_machine_is_restarted() {
    let hull = Hull::shared();
    let running = hull.background(&["--restart", "unless-stopped", "busybox", "sleep", "1000"]);
    let id = running.id.as_str();
    let machine = pid(&hull, id, "State.Pid");
    let supervisor = pid(&hull, id, "SupervisorPid");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(machine),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    eventually("another machine runs", || {
        hull.field(id, "{{.State.Status}} {{.RestartCount}}") == "running 1"
    });
    assert_ne!(pid(&hull, id, "State.Pid"), machine);
    assert_eq!(pid(&hull, id, "SupervisorPid"), supervisor);
    eventually("it answers", || hull.run(&["exec", id, "true"]).code == 0);
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let hull = Hull::shared();
    for (options, word) in [
        (&["--restart", "sometimes"][..], "invalid restart policy"),
        (&["--restart", "always:3"], "maximum retry count"),
        (&["--rm", "--restart", "always"], "conflicting options"),
    ] {
        let error = hull.fails(&[&["create"], options, &["busybox"]].concat(), 125);
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_paused_container_stands_still_and_goes_on() {
    let hull = Hull::shared();
    let count = "while :; do echo tick; usleep 10000; done";
    let running = hull.background(&["--name", "pause-me", "busybox", "sh", "-c", count]);
    let id = running.id.as_str();
    let log = hull.field(id, "{{.LogPath}}");
    let size = || std::fs::metadata(&log).map_or(0, |log| log.size());
    eventually("it counts", || size() > 0);
    assert_eq!(hull.ok(&["pause", "pause-me"]), "pause-me");
    assert_eq!(
        hull.field(id, "{{.State.Status}} {{.State.Paused}}"),
        "paused true"
    );
    assert!(hull.ok(&["ps"]).contains("(Paused)"));
    // What was on its way when it stopped has arrived once the guest has answered.
    hull.ok(&["top", id]);
    let before = hull.ok(&["logs", id]);
    hull.ok(&["top", id]);
    assert_eq!(hull.ok(&["logs", id]), before, "nothing runs");
    let error = hull.fails(&["exec", id, "true"], 1);
    assert!(error.contains("paused"), "{error}");
    assert!(hull.fails(&["pause", id], 1).contains("already paused"));
    hull.ok(&["unpause", id]);
    eventually("it goes on", || hull.ok(&["logs", id]).len() > before.len());
    assert!(hull.fails(&["unpause", id], 1).contains("not paused"));
    hull.ok(&["pause", id]);
    hull.ok(&["stop", "-t", "0", id]);
    assert_eq!(hull.field(id, "{{.State.Status}}"), "exited");
    assert!(hull.fails(&["pause", id], 1).contains("not running"));
}

#[test]
fn processes_and_use_are_shown() {
    let hull = Hull::shared();
    let running = hull.background(&["--name", "used", "busybox", "sh", "-c", "sleep 1000; true"]);
    eventually("the shell has its child", || {
        hull.ok(&["top", "used"]).lines().count() == 3
    });
    let table = hull.ok(&["top", "used"]);
    assert!(
        table.starts_with("UID ") && table.contains("sleep 1000"),
        "{table}"
    );
    let chosen = hull.ok(&["top", "used", "-o", "pid,ppid,comm"]);
    let rows: Vec<Vec<&str>> = chosen
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["PID", "PPID", "COMMAND"]);
    assert_eq!(rows[1], ["1", "0", "sh"]);
    assert_eq!(rows[2][1..], ["1", "sleep"]);
    let used = hull.ok(&["stats", "--no-stream", "--format", "json", "used"]);
    let used: serde_json::Value = serde_json::from_str(&used).unwrap();
    assert_eq!(used["PIDs"], "2");
    assert!(
        used["MemUsage"].as_str().unwrap().ends_with(" / 512MiB"),
        "{used}"
    );
    hull.ok(&["stop", "-t", "0", &running.id]);
    assert!(hull.fails(&["top", "used"], 1).contains("not running"));
}

#[test]
fn limits_and_policy_can_be_changed() {
    let hull = Hull::shared();
    let running = hull.background(&["--pids-limit", "100", "busybox", "sleep", "1000"]);
    let id = running.id.as_str();
    let limit = ["exec", id, "cat", "/sys/fs/cgroup/pids.max"];
    assert_eq!(hull.ok(&limit), "100");
    hull.ok(&["update", "--pids-limit", "50", "--restart", "always", id]);
    assert_eq!(hull.ok(&limit), "50");
    let done = hull.run(&["update", "--memory", "128m", "--cpus", "1", id]);
    assert!(
        done.code == 0 && done.stderr.contains("starts again"),
        "{done:?}"
    );
    assert_eq!(hull.field(id, "{{.HostConfig.Memory}}"), "134217728");
    // The policy that it has now brings it back with the memory that it has now.
    let machine = pid(&hull, id, "State.Pid");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(machine),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    eventually("it is restarted", || {
        hull.field(id, "{{.State.Status}} {{.RestartCount}}") == "running 1"
    });
    let mut total = String::new();
    eventually("it answers", || {
        let done = hull.run(&["exec", id, "sh", "-c", "grep MemTotal /proc/meminfo"]);
        total = done.stdout;
        done.code == 0
    });
    let kilobytes: u64 = total.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 128 << 10, "{total}");
    assert!(
        hull.fails(&["update", "--memory", "1m", id], 1)
            .contains("too little")
    );
    assert!(hull.fails(&["update", id], 1).contains("one or more"));
    assert!(!alive(machine));
}
