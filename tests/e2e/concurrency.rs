//! Many commands at once: right answers, nothing corrupt, nothing left.

use std::process::{Child, Stdio};

use crate::harness::{Hull, eventually};
use crate::leftovers;

fn spawn(hull: &Hull, arguments: &[&str]) -> Child {
    hull.command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn fifty_runs_at_once_give_fifty_right_answers() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let children: Vec<Child> = (0..50)
        .map(|n| {
            let script = format!("echo answer {n}; exit {n}");
            let arguments = ["run", "--rm", "-m", "64m", "busybox", "sh", "-c", &script];
            spawn(&hull, &arguments)
        })
        .collect();
    for (n, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(n as i32), "{err}");
        assert_eq!(
            (out.as_ref(), err.as_ref()),
            (&*format!("answer {n}\n"), "")
        );
    }
    assert_eq!(hull.ok(&["ps", "-aq"]), "");
    leftovers::none(&hull);
}

#[test]
fn twenty_racing_removals_of_one_container_all_succeed() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    for state in ["running", "exited"] {
        let id = hull.ok(&["run", "-d", "-v", "/data", "busybox", "sleep", "1000"]);
        if state == "exited" {
            hull.ok(&["kill", &id]);
            hull.ok(&["wait", &id]);
        }
        let racers: Vec<Child> = (0..20)
            .map(|_| spawn(&hull, &["rm", "-f", "-v", &id]))
            .collect();
        for racer in racers {
            let output = racer.wait_with_output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{state}: {error}");
            assert!(
                error.is_empty() || error.contains("No such container"),
                "{error}"
            );
        }
        assert_eq!(hull.ok(&["ps", "-aq"]), "");
        assert_eq!(hull.ok(&["volume", "ls", "-q"]), "");
    }
    leftovers::none(&hull);
}

#[test]
fn starts_that_race_with_a_removal_leave_nothing() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    for _ in 0..5 {
        let id = hull.ok(&["create", "busybox", "sleep", "1000"]);
        let racers: Vec<Child> = (0..6)
            .map(|n| match n % 2 {
                0 => spawn(&hull, &["start", &id]),
                _ => spawn(&hull, &["rm", "-f", &id]),
            })
            .collect();
        for racer in racers {
            let output = racer.wait_with_output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!error.contains("panicked"), "{error}");
        }
        hull.ok(&["rm", "-f", &id]);
        assert_eq!(hull.ok(&["ps", "-aq"]), "");
    }
    leftovers::none(&hull);
}

#[test]
fn two_pulls_of_one_image_make_one_image() {
    let hull = Hull::fresh();
    let pulls: Vec<Child> = (0..2).map(|_| spawn(&hull, &["pull", "debian"])).collect();
    for pull in pulls {
        let output = pull.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(hull.ok(&["images", "-q"]).lines().count(), 1);
    assert_eq!(
        hull.ok(&["run", "--rm", "debian", "echo", "whole"]),
        "whole"
    );
    let layers = std::fs::read_dir(hull.root().join("layers"))
        .unwrap()
        .count();
    let known = hull.field("debian", "{{len .RootFS.Layers}}");
    // One more where directories of a layer needed describing.
    let known: usize = known.parse().unwrap();
    assert!((known..=known + 1).contains(&layers), "{layers} {known}");
    leftovers::none(&hull);
}

#[test]
fn pruning_takes_nothing_from_those_who_use_it() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let kept = hull.background(&[
        "-v",
        "kept:/k",
        "busybox",
        "sh",
        "-c",
        "echo x > /k/f; sleep 1000",
    ]);
    let runs: Vec<Child> = (0..8)
        .map(|n| {
            let script = format!("echo {n} > /v/f; cat /v/f");
            spawn(
                &hull,
                &["run", "--rm", "-v", "/v", "busybox", "sh", "-c", &script],
            )
        })
        .collect();
    let prunes: Vec<Child> = (0..8)
        .map(|_| spawn(&hull, &["system", "prune", "-af", "--volumes"]))
        .collect();
    for (n, run) in runs.into_iter().enumerate() {
        let output = run.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        // Between its making and its start a container is one that does not run.
        if output.status.code() == Some(125) && error.contains("removed") {
            continue;
        }
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            (output.status.code(), out.trim()),
            (Some(0), &*n.to_string()),
            "{error}"
        );
    }
    for prune in prunes {
        let output = prune.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(hull.ok(&["exec", &kept.id, "cat", "/k/f"]), "x");
    eventually("the others are gone", || {
        hull.ok(&["ps", "-aq", "--no-trunc"]) == kept.id
    });
    drop(kept);
    hull.ok(&["volume", "rm", "kept"]);
    leftovers::none(&hull);
}
