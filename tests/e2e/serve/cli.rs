//! What docker's command line does through the API is what hull's own does.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::{Container, Server};
use crate::harness::{Hull, eventually};

#[test]
fn run_gives_output_and_exit_codes() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    for (program, code) in [
        (&["sh", "-c", "echo out; echo err >&2; exit 7"][..], 7),
        (&["no-such-program"], 127),
        (&["/etc/passwd"], 126),
        (&["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
    ] {
        let arguments = [&["run", "--rm", "busybox"], program].concat();
        let (theirs, ours) = (server.run(&arguments), hull.run(&arguments));
        assert_eq!((theirs.code, ours.code), (code, code), "{theirs:#?}");
        assert_eq!(theirs.stdout, ours.stdout);
        // Docker puts a word before and a hint after hull's sentence.
        let sentence = ours.stderr.trim().trim_start_matches("hull: ");
        assert!(theirs.stderr.contains(sentence), "{theirs:#?}");
    }
    assert_eq!(server.ok(&["ps", "-aq", "-f", "ancestor=no-such"]), "");
    let missing = server.fails(&["run", "--rm", "--pull=never", "no-such:1"], 125);
    assert!(missing.contains("No such image: no-such:1"), "{missing}");
}

#[test]
fn exit_codes_are_right_however_soon_a_container_is_gone() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let runs: Vec<_> = (0..24)
        .map(|number| {
            let script = format!("exit {}", number + 1);
            let mut command = server.command(&["run", "--rm", "busybox", "sh", "-c", &script]);
            (number + 1, command.spawn().unwrap())
        })
        .collect();
    for (code, mut run) in runs {
        assert_eq!(run.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn streams_carry_everything_both_ways() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let input: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
    let count = [
        "run",
        "--rm",
        "-i",
        "busybox",
        "sh",
        "-c",
        "sleep 0.2; wc -c; md5sum </dev/null",
    ];
    let done = server.feed(&count, &input);
    assert!(done.stdout.starts_with("4000000\n"), "{done:#?}");
    // The end of standard input alone does not end the output.
    let late = [
        "run",
        "--rm",
        "-i",
        "busybox",
        "sh",
        "-c",
        "cat; sleep 0.2; echo after",
    ];
    assert_eq!(server.feed(&late, b"before\n").stdout, "before\nafter\n");
    let big = [
        "run",
        "--rm",
        "busybox",
        "head",
        "-c",
        "20000000",
        "/dev/zero",
    ];
    let output = server.command(&big).output().unwrap();
    assert_eq!(output.stdout.len(), 20_000_000);
}

#[test]
fn the_life_of_a_container() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let name = "serve-life";
    let _removed = Container::named(&hull, name);
    let script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done";
    let id = server.ok(&[
        "run",
        "-d",
        "--name",
        name,
        "-l",
        "tier=front",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(hull.field(name, "{{.Id}}"), id);
    let mut logs = server
        .command(&["logs", "-f", name])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "up");

    let format = "{{.ID}} {{.Names}} {{.Image}} {{.State}} {{.Label \"tier\"}}";
    let row = format!("{} {name} busybox running front", &id[..12]);
    assert_eq!(
        server.ok(&["ps", "-f", "label=tier=front", "--format", format]),
        row
    );
    assert_eq!(
        server.ok(&["inspect", "-f", "{{.State.Status}}", name]),
        "running"
    );
    assert_eq!(server.ok(&["exec", name, "hostname"]), id[..12]);
    assert_eq!(server.run(&["exec", name, "sh", "-c", "exit 5"]).code, 5);
    let missing = server.run(&["exec", name, "no-such"]);
    assert_eq!(missing.code, 127, "{missing:#?}");
    assert_eq!(
        server.feed(&["exec", "-i", name, "cat"], b"hi").stdout,
        "hi"
    );
    assert!(server.ok(&["top", name]).contains("sleep 0.05"));
    let stats = server.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", name]);
    assert!(stats.ends_with("/ 512MiB"), "{stats}");
    server.ok(&["pause", name]);
    assert_eq!(hull.field(name, "{{.State.Status}}"), "paused");
    server.ok(&["unpause", name]);
    server.ok(&["update", "--restart", "on-failure:2", name]);
    assert_eq!(
        hull.field(name, "{{.HostConfig.RestartPolicy.Name}}"),
        "on-failure"
    );
    server.ok(&["update", "--restart", "no", name]);
    server.ok(&["rename", name, "serve-other"]);
    server.ok(&["rename", "serve-other", name]);
    let taken = server.fails(&["create", "--name", name, "busybox"], 1);
    assert!(taken.contains("already in use"), "{taken}");
    let refused = server.fails(&["rm", name], 1);
    assert!(refused.contains("running"), "{refused}");

    let waiting = server
        .command(&["wait", name])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    server.ok(&["stop", name]);
    assert_eq!(waiting.wait_with_output().unwrap().stdout, b"3\n");
    // Following ends with the container.
    assert!(lines.next().is_none());
    assert!(logs.wait().unwrap().success());
    assert_eq!(
        server.ok(&["ps", "-aq", "-f", "exited=3", "-f", "name=serve-life"]),
        id[..12]
    );
    server.ok(&["start", name]);
    server.ok(&["restart", "-t", "0", name]);
    server.ok(&["kill", name]);
    assert_eq!(server.ok(&["wait", name]), "137");
    server.ok(&["rm", name]);
    for command in [&["inspect", name][..], &["logs", name], &["start", name]] {
        let error = server.fails(command, 1);
        assert!(
            error.to_lowercase().contains("no such"),
            "{command:?}: {error}"
        );
    }
}

#[test]
fn files_go_in_and_out() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let name = "serve-files";
    let _removed = Container::named(&hull, name);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("in"), "content").unwrap();
    server.ok(&["create", "--name", name, "busybox", "cat", "/tmp/in"]);
    server.ok(&["cp", &path("in"), "serve-files:/tmp/in"]);
    assert_eq!(server.ok(&["start", "-a", name]), "content");
    server.ok(&["cp", "serve-files:/tmp/in", &path("out")]);
    assert_eq!(std::fs::read_to_string(path("out")).unwrap(), "content");
    server.ok(&["cp", "serve-files:/etc", &path("etc")]);
    assert!(std::fs::metadata(path("etc/passwd")).unwrap().is_file());
    let missing = server.fails(&["cp", "serve-files:/no/such", &path("x")], 1);
    assert!(
        missing.contains("Could not find the file /no/such"),
        "{missing}"
    );
    assert_eq!(server.ok(&["diff", name]), hull.ok(&["diff", name]));
    server.ok(&["export", "-o", &path("all.tar"), name]);
    let listing = std::process::Command::new("tar")
        .args(["-tf", &path("all.tar")])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&listing.stdout).contains("tmp/in\n"));
}

#[test]
fn logs_are_chosen_as_in_hull() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let name = "serve-logs";
    let _removed = Container::named(&hull, name);
    let script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done";
    server.ok(&["run", "--name", name, "busybox", "sh", "-c", script]);
    for options in [
        &[][..],
        &["--tail", "2"],
        &["-t"],
        &["--since", "1h"],
        &["--until", "1h"],
    ] {
        let arguments = [&["logs"], options, &[name]].concat();
        let (theirs, ours) = (server.run(&arguments), hull.run(&arguments));
        assert_eq!(
            (theirs.stdout, theirs.stderr),
            (ours.stdout, ours.stderr),
            "{options:?}"
        );
    }
}

#[test]
fn events_are_told_while_they_happen() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let name = "serve-events";
    let _removed = Container::named(&hull, name);
    let mut events = server
        .command(&[
            "events",
            "-f",
            "container=serve-events",
            "--format",
            "{{.Action}}",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    // There is no sign from outside that docker listens: events are made until one is heard.
    let (heard, hears) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while let Some(Ok(line)) = lines.next() {
            seen.push(line);
            let _ = heard.send(());
            if seen.last().is_some_and(|line| line == "destroy")
                && seen.iter().any(|line| line == "die")
            {
                break;
            }
        }
        seen
    });
    eventually("the first event is heard", || {
        hull.ok(&["create", "--name", name, "busybox", "true"]);
        let heard = hears.try_recv().is_ok();
        hull.ok(&["rm", name]);
        heard
    });
    hull.ok(&["run", "--rm", "--name", name, "busybox", "true"]);
    let seen = reader.join().unwrap().join(" ");
    events.kill().unwrap();
    events.wait().unwrap();
    assert!(seen.ends_with("create start die destroy"), "{seen}");
}

#[test]
fn killing_the_server_loses_no_container() {
    let hull = Hull::shared();
    let mut server = Server::new(&hull);
    let name = "serve-kill";
    let _removed = Container::named(&hull, name);
    server.ok(&[
        "run",
        "-d",
        "--name",
        name,
        "busybox",
        "sh",
        "-c",
        "echo here; exec sleep 1000",
    ]);
    let started = hull.field(name, "{{.State.StartedAt}}");
    server.replace();
    assert_eq!(
        server.ok(&["inspect", "-f", "{{.State.StartedAt}}", name]),
        started
    );
    assert_eq!(server.ok(&["logs", name]), "here");
    assert_eq!(server.ok(&["exec", name, "echo", "alive"]), "alive");
}

#[test]
fn the_socket_is_its_owners_and_taken_once() {
    use std::os::unix::fs::PermissionsExt;
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let mode = std::fs::metadata(server.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let socket = server.socket().display().to_string();
    let error = hull.fails(&["serve", "--socket", &socket], 1);
    assert!(error.contains("being served already"), "{error}");
    assert!(server.ok(&["version"]).contains("Server: hull"));
    assert!(
        server
            .ok(&["info", "-f", "{{.DefaultRuntime}}"])
            .contains("hull")
    );
}
