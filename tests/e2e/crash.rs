//! `kill -9` at bad moments: the next command finds a truth and nothing is left running.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Hull, alive, eventually};

fn pid(hull: &Hull, name: &str, field: &str) -> i32 {
    hull.field(name, &format!("{{{{.{field}}}}}"))
        .parse()
        .unwrap()
}

/// Every process below `root`, itself included.
fn tree(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let path = format!("/proc/{0}/task/{0}/children", found[next]);
        let children = std::fs::read_to_string(path).unwrap_or_default();
        found.extend(
            children
                .split_whitespace()
                .filter_map(|word| word.parse::<i32>().ok()),
        );
        next += 1;
    }
    found
}

#[track_caller]
fn all_gone(pids: &[i32]) {
    eventually("every process ends", || pids.iter().all(|&pid| !alive(pid)));
}

#[test]
fn a_killed_supervisor_takes_its_machine_along_and_is_noticed() {
    let hull = Hull::shared();
    let running = hull.background(&["busybox", "sleep", "1000"]);
    let supervisor = pid(&hull, &running.id, "SupervisorPid");
    let pids = tree(supervisor);
    assert!(
        pids.len() >= 3,
        "supervisor, machine, guest kernel: {pids:?}"
    );
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    all_gone(&pids);
    let state = hull.field(
        &running.id,
        "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}",
    );
    assert!(
        state.starts_with("exited 137") && state.contains("supervisor"),
        "{state}"
    );
    hull.ok(&["start", &running.id]);
    assert_eq!(hull.ok(&["exec", &running.id, "echo", "again"]), "again");
}

#[test]
fn a_killed_machine_is_reported() {
    let hull = Hull::shared();
    let mut child = hull
        .command(&[
            "run",
            "--name",
            "crash-machine",
            "busybox",
            "sh",
            "-c",
            "echo up; sleep 1000",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    // Without it there is no machine, and killing process 0 would end the tests.
    assert_eq!(line, "up\n");
    let pids = tree(pid(&hull, "crash-machine", "SupervisorPid"));
    let machine = pid(&hull, "crash-machine", "State.Pid");
    kill(Pid::from_raw(machine), Signal::SIGKILL).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(255), "{error}");
    assert!(error.contains("killed"), "{error}");
    all_gone(&pids);
    assert_eq!(hull.field("crash-machine", "{{.State.Status}}"), "exited");
    hull.ok(&["rm", "crash-machine"]);
}

#[test]
fn a_container_with_rm_whose_supervisor_is_killed_goes_away() {
    let hull = Hull::shared();
    let running = hull.background(&["--rm", "busybox", "sleep", "1000"]);
    let supervisor = pid(&hull, &running.id, "SupervisorPid");
    let pids = tree(supervisor);
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    all_gone(&pids);
    hull.ok(&["ps", "-a"]);
    hull.fails(&["inspect", &running.id], 1);
}

#[test]
fn many_runs_leave_nothing_behind() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let children: Vec<_> = (0..12)
        .map(|n| {
            let code = format!("exit {n}");
            hull.command(&["run", "--rm", "busybox", "sh", "-c", &code])
                .spawn()
                .unwrap()
        })
        .collect();
    for (n, mut child) in children.into_iter().enumerate() {
        assert_eq!(child.wait().unwrap().code(), Some(n as i32));
    }
    assert_eq!(hull.ok(&["ps", "-aq"]), "");
    eventually("run directories go", || {
        let run = std::fs::read_dir(hull.root().join("run/containers"));
        run.map_or(true, |entries| entries.count() == 0)
    });
    assert_eq!(
        std::fs::read_dir(hull.root().join("containers"))
            .unwrap()
            .count(),
        0
    );
    eventually("processes go", || {
        let root = hull.root().display().to_string();
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        !all.filter_map(|p| std::fs::read(p.path().join("environ")).ok())
            .any(|env| String::from_utf8_lossy(&env).contains(&format!("HULL_ROOT={root}\0")))
    });
}
