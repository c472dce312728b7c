//! The main job: an image's program in a guest of its own, with real exit codes and streams.

use crate::harness::{Hull, engine, machine};

#[test]
fn an_image_of_the_hosts_architecture_runs_and_exits_with_its_code() {
    let hull = Hull::shared();
    let done = hull.run(&["run", "--rm", "debian", "sh", "-c", "uname -m; exit 7"]);
    let said = format!("{}\n", machine());
    assert_eq!((done.code, &done.stdout), (7, &said), "{done:#?}");
    assert_eq!(done.stderr, "");
}

#[test]
fn output_goes_to_the_stream_that_it_was_written_to() {
    let hull = Hull::shared();
    let done = hull.run(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2",
    ]);
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn a_process_killed_by_a_signal_gives_128_and_its_number() {
    let hull = Hull::shared();
    // The shell runs its child, which dies; the first process itself is immune to most.
    let done = hull.run(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "sh -c 'kill -TERM $$'; exit $?",
    ]);
    assert_eq!(done.code, 143, "{done:#?}");
}

#[test]
fn nothing_of_a_container_with_rm_is_left() {
    let hull = Hull::shared();
    let name = "run-rm-leaves-nothing";
    hull.ok(&["run", "--rm", "--name", name, "busybox", "true"]);
    hull.ok(&["run", "--rm", "--name", name, "busybox", "true"]);
    assert_eq!(
        hull.ok(&["ps", "-a", "-q", "--filter", &format!("name={name}")]),
        ""
    );
}

#[test]
fn the_kernel_is_the_guests_own() {
    let hull = Hull::shared();
    let inside = hull.ok(&["run", "--rm", "busybox", "uname", "-r"]);
    let outside = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_ne!(inside, outside.trim());
}

#[test]
fn entrypoint_and_command_work_as_the_workshop_has_them() {
    let hull = Hull::shared();
    let list = hull.ok(&[
        "run",
        "--rm",
        "--entrypoint",
        "ls",
        "busybox",
        "/bin/busybox",
    ]);
    assert_eq!(list, "/bin/busybox");
    let joined = hull.ok(&[
        "run",
        "--rm",
        "--entrypoint",
        "/bin/echo",
        "busybox",
        "-n",
        "a",
        "b",
    ]);
    assert_eq!(joined, "a b");
}

#[test]
fn environment_directory_user_and_hostname_are_what_was_asked_for() {
    let hull = Hull::shared();
    let script = "echo $A:$B; pwd; id -u; id -g; hostname";
    let out = hull.ok(&[
        "run",
        "--rm",
        "-e",
        "A=1",
        "-e",
        "B=x y",
        "-w",
        "/opt/new/dir",
        "-u",
        "1234:77",
        "--hostname",
        "box",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(out, "1:x y\n/opt/new/dir\n1234\n77\nbox");
}

#[test]
fn an_environment_file_is_read() {
    let hull = Hull::shared();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# comment\nFROM_FILE=yes\n\nOVERRIDDEN=no\n").unwrap();
    let path = file.path().to_str().unwrap();
    let out = hull.ok(&[
        "run",
        "--rm",
        "--env-file",
        path,
        "-e",
        "OVERRIDDEN=yes",
        "busybox",
        "sh",
        "-c",
        "echo $FROM_FILE $OVERRIDDEN",
    ]);
    assert_eq!(out, "yes yes");
}

#[test]
fn users_are_found_by_name_in_the_image() {
    let hull = Hull::shared();
    let out = hull.ok(&["run", "--rm", "-u", "www-data", "debian", "id"]);
    assert_eq!(out, "uid=33(www-data) gid=33(www-data) groups=33(www-data)");
}

#[test]
fn a_detached_container_is_listed_waited_for_and_logged() {
    let hull = Hull::shared();
    let running = hull.background(&["busybox", "sh", "-c", "echo hello; echo oops >&2; exit 3"]);
    assert_eq!(running.id.len(), 64);
    assert_eq!(hull.ok(&["wait", &running.id]), "3");
    let logs = hull.run(&["logs", &running.id]);
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("hello\n", "oops\n")
    );
    let status = hull.ok(&["ps", "-a", "--filter", &format!("id={}", running.id)]);
    assert!(status.contains("Exited (3)"), "{status}");
    assert_eq!(
        hull.field(&running.id, "{{.State.ExitCode}} {{.State.Status}}"),
        "3 exited"
    );
}

#[test]
fn what_starting_a_guest_took_is_told_when_asked_for() {
    let hull = Hull::shared();
    let done = hull.run(&["run", "--rm", "--trace-boot", "busybox", "echo", "out"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "out\n"), "{done:#?}");
    let (steps, rest) = done
        .stderr
        .split_once("the agent is ready\n")
        .expect("its last step");
    // Time passes from one step to the next.
    let times: Vec<f64> = steps
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap())
        .collect();
    assert!(times.len() >= 3 && times.is_sorted(), "{steps}");
    // Under uml there is nothing to exit from, which is said.
    if engine() == "uml" {
        assert!(rest.contains("no exits: this engine"), "{rest}");
    } else {
        assert!(rest.contains(" exits: "), "{rest}");
    }
    assert!(rest.contains("ms CPU of its own, set-up "), "{rest}");
    let served = rest
        .lines()
        .find_map(|line| line.strip_prefix("boot: devices served: vsock "))
        .and_then(|line| line.split(',').next()?.parse::<u32>().ok());
    assert!(served.is_some_and(|count| count > 0), "{rest}");
}
