//! Create, start, stop, kill, wait, remove, logs, attach.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::harness::{Hull, engine};

#[test]
fn created_containers_start_again_and_keep_their_files() {
    let hull = Hull::shared();
    let id = hull.ok(&[
        "create",
        "busybox",
        "sh",
        "-c",
        "cat /kept 2>/dev/null; echo $RANDOM > /kept; sync",
    ]);
    assert_eq!(hull.field(&id, "{{.State.Status}}"), "created");
    assert_eq!(hull.ok(&["start", "-a", &id]), "");
    let second = hull.ok(&["start", "-a", &id]);
    assert!(!second.is_empty(), "the file of the first run is there");
    assert_eq!(hull.ok(&["rm", &id]), id);
    hull.fails(&["start", &id], 1);
}

#[test]
fn stop_sends_the_stop_signal_and_then_kills() {
    let hull = Hull::shared();
    let polite = "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done";
    let running = hull.background(&["busybox", "sh", "-c", polite]);
    follow_until(&hull, &running.id, "up");
    assert_eq!(hull.ok(&["stop", "-t", "60", &running.id]), running.id);
    assert_eq!(hull.field(&running.id, "{{.State.ExitCode}}"), "4");
    assert!(hull.ok(&["logs", &running.id]).ends_with("bye"));

    let deaf = hull.background(&["busybox", "sleep", "1000"]);
    hull.ok(&["stop", "-t", "0", &deaf.id]);
    assert_eq!(hull.field(&deaf.id, "{{.State.ExitCode}}"), "137");

    let custom = "trap 'exit 6' USR1; echo up; while :; do sleep 0.05; done";
    let running = hull.background(&["--stop-signal", "USR1", "busybox", "sh", "-c", custom]);
    follow_until(&hull, &running.id, "up");
    hull.ok(&["stop", "-t", "60", &running.id]);
    assert_eq!(hull.field(&running.id, "{{.State.ExitCode}}"), "6");
    // Stopping what has stopped is no error, as in docker.
    hull.ok(&["stop", &running.id]);
}

#[test]
fn kill_sends_any_signal() {
    let hull = Hull::shared();
    let script = "trap 'echo got; exit 0' HUP; echo up; while :; do sleep 0.05; done";
    let running = hull.background(&["busybox", "sh", "-c", script]);
    follow_until(&hull, &running.id, "up");
    hull.fails(&["kill", "-s", "NOPE", &running.id], 1);
    hull.ok(&["kill", "-s", "HUP", &running.id]);
    assert_eq!(hull.ok(&["wait", &running.id]), "0");
    let error = hull.fails(&["kill", &running.id], 1);
    assert!(error.contains("not running"), "{error}");
}

#[test]
fn a_running_container_is_removed_only_by_force() {
    let hull = Hull::shared();
    let running = hull.background(&["busybox", "sleep", "1000"]);
    let error = hull.fails(&["rm", &running.id], 1);
    assert!(error.contains("running"), "{error}");
    hull.ok(&["rm", "-f", &running.id]);
    hull.fails(&["inspect", &running.id], 1);
    // As docker: forced removal of what is not there succeeds.
    hull.ok(&["rm", "-f", &running.id]);
}

#[test]
fn names_are_unique_and_ids_can_be_shortened() {
    let hull = Hull::shared();
    let name = "lifecycle-unique";
    let running = hull.background(&["--name", name, "busybox", "sleep", "1000"]);
    let error = hull.fails(&["create", "--name", name, "busybox"], 125);
    assert!(error.contains("already in use"), "{error}");
    for known in [name, &running.id, &running.id[..12], "/lifecycle-unique"] {
        assert_eq!(hull.field(known, "{{.Id}}"), running.id);
    }
    let shown = hull.ok(&[
        "ps",
        "--no-trunc",
        "--format",
        "{{.ID}} {{.Names}} {{.Engine}}",
    ]);
    assert!(
        shown.contains(&format!("{} {name} {}", running.id, engine())),
        "{shown}"
    );
}

#[test]
fn logs_follow_tail_and_time() {
    let hull = Hull::shared();
    let running = hull.background(&[
        "busybox",
        "sh",
        "-c",
        "echo 1; echo 2; echo 3; sleep 1; echo 4",
    ]);
    follow_until(&hull, &running.id, "3");
    assert_eq!(hull.ok(&["logs", "-f", &running.id]), "1\n2\n3\n4");
    hull.ok(&["wait", &running.id]);
    assert_eq!(hull.ok(&["logs", "--tail", "2", &running.id]), "3\n4");
    let stamped = hull.ok(&["logs", "-t", &running.id]);
    let first = stamped.lines().next().unwrap();
    assert!(
        first.starts_with("20") && first.ends_with("Z 1"),
        "{stamped}"
    );
    assert_eq!(hull.ok(&["logs", "--since", "2100-01-01", &running.id]), "");
    assert_eq!(hull.ok(&["logs", "-f", &running.id]), "1\n2\n3\n4");
}

#[test]
fn attach_joins_a_running_container() {
    let hull = Hull::shared();
    let running = hull.background(&["-i", "busybox", "cat"]);
    let done = hull.feed(&["attach", &running.id], b"typed later");
    assert_eq!((done.code, done.stdout.as_str()), (0, "typed later"));
}

#[test]
fn the_command_line_can_die_and_come_back() {
    let hull = Hull::shared();
    let name = "lifecycle-cli-dies";
    let mut child = hull
        .command(&[
            "run",
            "--name",
            name,
            "busybox",
            "sh",
            "-c",
            "echo up; sleep 1; exit 8",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(hull.ok(&["wait", name]), "8");
    assert_eq!(hull.ok(&["logs", name]), "up");
    hull.ok(&["rm", name]);
}

#[test]
fn export_gives_the_merged_files_running_or_not() {
    let hull = Hull::shared();
    let running = hull.background(&[
        "busybox",
        "sh",
        "-c",
        "echo new > /added; rm /etc/passwd; sync; sleep 1000",
    ]);
    hull.ok(&[
        "exec",
        &running.id,
        "sh",
        "-c",
        "until [ ! -e /etc/passwd ]; do :; done",
    ]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let names = || {
        hull.ok(&["export", "-o", path, &running.id]);
        let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
        let names = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().into_owned());
        names.map(|p| p.display().to_string()).collect::<Vec<_>>()
    };
    for state in ["running", "stopped"] {
        let names = names();
        assert!(names.iter().any(|n| n == "added"), "{state}: {names:?}");
        assert!(
            names.iter().any(|n| n.trim_end_matches('/') == "bin"),
            "{state}"
        );
        assert!(!names.iter().any(|n| n == "etc/passwd"), "{state}");
        assert!(
            !names.iter().any(|n| n.starts_with("proc/") && n.len() > 5),
            "{state}"
        );
        hull.ok(&["stop", "-t", "0", &running.id]);
    }
}

/// Reads the log until `text` is in it.
#[track_caller]
fn follow_until(hull: &Hull, id: &str, text: &str) {
    let mut child = hull
        .command(&["logs", "-f", id])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let found = lines.map_while(Result::ok).any(|line| line.contains(text));
    let _ = child.kill();
    let _ = child.wait();
    assert!(found, "{text:?} never came");
}

#[test]
fn containers_are_renamed_and_restarted() {
    let hull = Hull::shared();
    let running = hull.background(&["--name", "life-old", "busybox", "sleep", "1000"]);
    hull.ok(&["rename", "life-old", "life-new"]);
    assert_eq!(hull.field("life-new", "{{.Id}}"), running.id);
    hull.fails(&["inspect", "life-old"], 1);
    let error = hull.fails(&["rename", "life-new", "life-new"], 1);
    assert!(error.contains("same name"), "{error}");
    hull.ok(&["exec", &running.id, "sh", "-c", "echo x > /kept"]);
    assert_eq!(hull.ok(&["restart", "-t", "0", "life-new"]), "life-new");
    assert_eq!(hull.field("life-new", "{{.State.Status}}"), "running");
    assert_eq!(hull.ok(&["exec", "life-new", "cat", "/kept"]), "x");

    let kept = hull.background(&["--rm", "busybox", "sleep", "1000"]);
    let error = hull.fails(&["restart", "-t", "0", &kept.id], 1);
    assert!(error.contains("--rm"), "{error}");
    assert_eq!(hull.field(&kept.id, "{{.State.Status}}"), "running");
}
