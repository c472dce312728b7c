//! A booted guest waits for the next container, which then begins in it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Hull, PATIENCE, alive, engine, eventually, repository};
use crate::leftovers::keepers;

/// A state directory in which a guest waits, and its keeper. Nothing where there are none: only guests
/// of user-mode Linux wait.
fn waiting() -> Option<(Hull, i32)> {
    if engine() != "uml" {
        return None;
    }
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    hull.ok(&["run", "--rm", "busybox", "true"]);
    let keeper = keeper(&hull);
    Some((hull, keeper))
}

/// The one keeper, once its guest is ready.
#[track_caller]
fn keeper(hull: &Hull) -> i32 {
    let mut found = Vec::new();
    let begin = std::time::Instant::now();
    while found.len() != 1 {
        let log = hull.root().join("run/standby/log");
        let log = || fs::read_to_string(log).unwrap_or_default();
        assert!(begin.elapsed() < PATIENCE, "no guest waits: {}", log());
        found = keepers(hull);
    }
    found.first().copied().unwrap()
}

fn sockets(hull: &Hull) -> Vec<PathBuf> {
    let entries = fs::read_dir(hull.root().join("run/standby"));
    let entries = entries.into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_none() && !path.ends_with("log"))
        .collect()
}

/// The supervisor of a container that runs.
fn supervisor(hull: &Hull, name: &str) -> i32 {
    hull.field(name, "{{.SupervisorPid}}").parse().unwrap()
}

/// The command line of the guest that a supervisor's machine runs.
fn guest(supervisor: i32) -> String {
    let mut parents = vec![supervisor];
    while let Some(pid) = parents.pop() {
        let read = |path: String| fs::read_to_string(path).unwrap_or_default();
        let line = read(format!("/proc/{pid}/cmdline"));
        if line.starts_with("hull-guest") {
            return line;
        }
        let children = read(format!("/proc/{pid}/task/{pid}/children"));
        parents.extend(
            children
                .split_whitespace()
                .map(|pid| pid.parse::<i32>().unwrap()),
        );
    }
    String::new()
}

#[test]
fn a_guest_that_waited_becomes_the_next_container() {
    let Some((hull, keeper)) = waiting() else {
        return;
    };
    let script = "hostname; ip addr show eth0; cat /etc/hosts; mount; sleep 1000";
    let running = hull.background(&["-m", "512m", "-e", "A=b", "busybox", "sh", "-c", script]);
    let id = &running.id;
    assert_eq!(supervisor(&hull, id), keeper);
    assert!(guest(keeper).starts_with("hull-guest:standby"));
    // It is as any other.
    let mut said = String::new();
    eventually("it has said everything", || {
        said = hull.ok(&["logs", id]);
        said.contains("overlay on / ")
    });
    assert!(said.starts_with(&id[..12]), "{said}");
    for field in ["MacAddress", "IPAddress"] {
        let value = hull.field(id, &format!("{{{{.NetworkSettings.{field}}}}}"));
        assert!(
            !value.is_empty() && said.contains(&value),
            "{value}: {said}"
        );
    }
    assert_eq!(hull.ok(&["exec", id, "sh", "-c", "echo $A"]), "b");
    let ping = hull.ok(&["exec", id, "ping", "-c", "1", "-q", "172.17.0.1"]);
    assert!(ping.contains(" 0% packet loss"), "{ping}");
    hull.ok(&["exec", id, "sh", "-c", "echo kept >/file"]);
    // Its next run boots, with what it wrote.
    hull.ok(&["restart", "-t", "0", id]);
    assert_eq!(hull.ok(&["exec", id, "cat", "/file"]), "kept");
}

#[test]
fn every_container_has_a_guest_of_its_own() {
    let Some((hull, _)) = waiting() else {
        return;
    };
    let mut guests = Vec::new();
    for round in 0..3 {
        let keeper = keeper(&hull);
        let name = format!("round{round}");
        let script = "cat /proc/sys/kernel/random/boot_id; ls /tmp; touch /tmp/left; sleep 1000";
        let running = hull.background(&["--name", &name, "busybox", "sh", "-c", script]);
        assert_eq!(supervisor(&hull, &running.id), keeper);
        let mut said = String::new();
        eventually("it has said which it is", || {
            said = hull.ok(&["logs", &name]);
            said.lines().count() == 1
        });
        guests.push(said);
    }
    guests.dedup();
    assert_eq!(guests.len(), 3, "{guests:?}");
}

#[test]
fn programs_of_other_architectures_run_in_it() {
    let Some((hull, keeper)) = waiting() else {
        return;
    };
    hull.ok(&["pull", "-q", "--platform", "linux/arm64", "busybox"]);
    let arm = ["--platform", "linux/arm64", "busybox", "sleep", "1000"];
    let running = hull.background(&arm);
    assert_eq!(supervisor(&hull, &running.id), keeper);
    assert_eq!(hull.ok(&["exec", &running.id, "uname", "-m"]), "aarch64");
}

#[test]
fn what_needs_another_machine_leaves_it_alone() {
    let Some((hull, keeper)) = waiting() else {
        return;
    };
    let shared = hull.root().display().to_string();
    for options in [
        &["-m", "256m"][..],
        &["--cpus", "2"],
        &["-v", &format!("{shared}:/host:ro")],
        &["--network", "none"],
        &["--storage-opt", "size=1g"],
        &["--engine", "tcg"],
    ] {
        let run = [&["run", "--rm"], options, &["busybox", "echo", "ran"]].concat();
        assert_eq!(hull.ok(&run), "ran", "{options:?}");
        assert!(alive(keeper), "{options:?}");
        assert_eq!(sockets(&hull).len(), 1, "{options:?}");
    }
    // Nor does a command with other settings take it.
    let other = hull.root().join("other.toml");
    fs::copy(repository().join("target/demo/config.toml"), &other).unwrap();
    let mut run = hull.command(&["run", "--rm", "busybox", "echo", "ran"]);
    let output = run.env("HULL_CONFIG", &other).output().unwrap();
    assert_eq!(output.stdout, b"ran\n");
    assert!(alive(keeper));
    // Or another version of hull.
    let run = hull.command(&["run", "--rm", "busybox", "echo", "ran"]);
    let newer = hull.root().join("hull");
    fs::copy(run.get_program(), &newer).unwrap();
    let variables = run
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let output = Command::new(&newer)
        .args(run.get_args())
        .envs(variables)
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"ran\n", "{output:?}");
    assert!(alive(keeper));
    // Or one whose containers are to have another priority.
    let run = hull.command(&["run", "--rm", "busybox", "echo", "ran"]);
    let variables = run
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let output = Command::new("nice")
        .args(["-n", "5"])
        .arg(run.get_program())
        .args(run.get_args())
        .envs(variables)
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"ran\n");
    assert!(alive(keeper));
}

#[test]
fn one_that_was_killed_or_hangs_is_done_without() {
    let Some((hull, mut waits)) = waiting() else {
        return;
    };
    let run = || hull.ok(&["run", "--rm", "busybox", "echo", "ran"]);
    kill(Pid::from_raw(waits), Signal::SIGKILL).unwrap();
    eventually("it is gone", || !alive(waits));
    assert_eq!(run(), "ran");

    // Without its guest a keeper ends by itself.
    waits = keeper(&hull);
    let child = |pid: i32| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(path).unwrap();
        children.trim().parse::<i32>().unwrap()
    };
    kill(Pid::from_raw(child(waits)), Signal::SIGKILL).unwrap();
    eventually("it is gone", || !alive(waits) && sockets(&hull).is_empty());
    assert_eq!(run(), "ran");

    // One whose machine does not answer is not used.
    waits = keeper(&hull);
    kill(Pid::from_raw(child(child(waits))), Signal::SIGSTOP).unwrap();
    assert_eq!(run(), "ran");
    eventually("it is gone", || !alive(waits));

    // One that does not answer is not waited for.
    waits = keeper(&hull);
    kill(Pid::from_raw(waits), Signal::SIGSTOP).unwrap();
    assert_eq!(run(), "ran");
    kill(Pid::from_raw(waits), Signal::SIGKILL).unwrap();
    eventually("it is gone", || !alive(waits));
}

#[test]
fn clients_that_talk_nonsense_get_nothing() {
    let Some((hull, _)) = waiting() else {
        return;
    };
    for nonsense in [&b""[..], b"GET / HTTP/1.0\r\n\r\n", &[0; 100_000]] {
        let waits = keeper(&hull);
        let mut socket = None;
        eventually("it listens", || {
            socket = sockets(&hull)
                .first()
                .and_then(|path| UnixStream::connect(path).ok());
            socket.is_some()
        });
        let mut socket = socket.unwrap();
        // It may have hung up already.
        let _ = socket.write_all(nonsense);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.len() <= 1, "{answer:?}");
        eventually("it is gone", || !alive(waits));
        assert_eq!(hull.ok(&["run", "--rm", "busybox", "echo", "ran"]), "ran");
    }
    assert_eq!(hull.ok(&["ps", "-aq"]), "");
}

#[test]
fn one_of_an_older_version_is_not_used() {
    if engine() != "uml" {
        return;
    }
    let hull = Hull::fresh();
    let assets = hull.root().join("assets");
    for part in ["kernels", "guest", "emulators/bin"] {
        fs::create_dir_all(assets.join(part)).unwrap();
        for entry in fs::read_dir(repository().join("target").join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), assets.join(part).join(entry.file_name())).unwrap();
            }
        }
    }
    let command = |arguments: &[&str]| {
        let mut command = hull.command(arguments);
        let output = command.env("HULL_ASSETS", &assets).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    command(&["run", "--rm", "-q", "busybox", "true"]);
    let waits = keeper(&hull);
    // Another kernel comes into its place, as an update has it.
    let kernel = assets.join("kernels/linux-um");
    let newer = assets.join("kernels/newer");
    fs::copy(&kernel, &newer).unwrap();
    fs::rename(&newer, &kernel).unwrap();
    let id = command(&["run", "-d", "busybox", "sleep", "1000"]);
    assert_eq!(supervisor(&hull, &id), waits);
    assert!(guest(waits).starts_with(&format!("hull-guest:{}", &id[..12])));
    command(&["rm", "-f", &id]);
}

#[test]
fn it_does_not_wait_for_ever() {
    if engine() != "uml" {
        return;
    }
    let hull = Hull::fresh();
    let settings = |seconds: u32| {
        let own = hull.root().join(format!("{seconds}.toml"));
        let common = fs::read_to_string(repository().join("target/demo/config.toml")).unwrap();
        fs::write(
            &own,
            format!("{common}\n[defaults]\nstandby-seconds = {seconds}\n"),
        )
        .unwrap();
        own
    };
    let run = |seconds| {
        let mut run = hull.command(&["run", "--rm", "-q", "busybox", "true"]);
        let status = run.env("HULL_CONFIG", settings(seconds)).status().unwrap();
        assert!(status.success());
    };
    run(0);
    eventually("its supervisor ends", || {
        crate::leftovers::processes(&hull).is_empty()
    });
    assert!(sockets(&hull).is_empty() && keepers(&hull).is_empty());
    run(1);
    let waits = keeper(&hull);
    eventually("its time is over", || {
        !alive(waits) && sockets(&hull).is_empty()
    });
    // It goes with its place, too.
    run(1000);
    let waits = keeper(&hull);
    fs::remove_dir_all(hull.root().join("run/standby")).unwrap();
    eventually("it is gone", || !alive(waits));
}
