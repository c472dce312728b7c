//! Further processes in a running container.

use std::process::Stdio;

use crate::harness::Hull;

#[test]
fn exec_runs_in_the_containers_world_with_its_own_exit_code() {
    let hull = Hull::shared();
    let running = hull.background(&["-e", "A=1", "busybox", "sleep", "1000"]);
    hull.ok(&["exec", &running.id, "sh", "-c", "echo data > /file"]);
    let out = hull.ok(&[
        "exec",
        "-e",
        "B=2",
        "-w",
        "/tmp",
        "-u",
        "5:6",
        &running.id,
        "sh",
        "-c",
        "cat /file; echo $A $B; pwd; id -u; id -g; cat /proc/1/comm",
    ]);
    assert_eq!(out, "data\n1 2\n/tmp\n5\n6\nsleep");
    assert_eq!(
        hull.run(&["exec", &running.id, "sh", "-c", "exit 9"]).code,
        9
    );
    assert_eq!(
        hull.feed(&["exec", "-i", &running.id, "cat"], b"through")
            .stdout,
        "through"
    );
}

#[test]
fn exec_explains_what_cannot_run() {
    let hull = Hull::shared();
    let running = hull.background(&["busybox", "sleep", "1000"]);
    let error = hull.fails(&["exec", &running.id, "no-such-program"], 127);
    assert!(
        error.contains("no-such-program") && error.contains("not found"),
        "{error}"
    );
    hull.fails(&["exec", &running.id, "/etc"], 126);
    hull.fails(&["exec", "no-such-container", "true"], 1);
    let error = hull.fails(&["exec", "-u", "nobody-here", &running.id, "true"], 125);
    assert!(error.contains("nobody-here"), "{error}");
}

#[test]
fn two_hundred_execs_at_once_are_all_answered() {
    let hull = Hull::shared();
    let running = hull.background(&["busybox", "sleep", "1000"]);
    let children: Vec<_> = (0..200)
        .map(|number| {
            let script = format!("echo {number}; exit {}", number % 100);
            hull.command(&["exec", &running.id, "sh", "-c", &script])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for (number, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said, format!("{number}\n"), "{error}");
        assert_eq!(output.status.code(), Some((number % 100) as i32), "{error}");
    }
}

#[test]
fn an_exec_ends_with_its_container() {
    let hull = Hull::shared();
    let running = hull.background(&["busybox", "sleep", "1000"]);
    let child = hull
        .command(&["exec", &running.id, "sh", "-c", "echo up; sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = child;
    let mut first = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    assert_eq!(&first, b"up\n");
    hull.ok(&["kill", &running.id]);
    assert_eq!(child.wait().unwrap().code(), Some(137));
}
