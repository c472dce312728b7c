//! Terminals, and clients that leave in the middle.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use super::{Container, Server};
use crate::harness::{Hull, eventually};

/// `script` gives a command a terminal.
fn in_terminal(server: &Server<'_>, line: &str) -> std::process::Command {
    let mut command = std::process::Command::new("script");
    server.point(command.args(["-qec", line, "/dev/null"]));
    command
}

#[test]
fn a_terminal_is_one() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let line = "stty rows 33 cols 77; docker run --rm -it busybox sh -c 'tty; while [ \"$(stty size)\" != \"33 77\" ]; do sleep 0.05; done; stty size; exit 4'";
    let output = in_terminal(&server, line)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("/dev/pts/0") && text.contains("33 77"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(4), "{text}");
}

#[test]
fn keys_detach_and_the_container_goes_on() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let name = "serve-detach";
    let _removed = Container::named(&hull, name);
    let line = "docker run -it --name serve-detach busybox sh -c 'echo up; cat; echo done'";
    let mut child = in_terminal(&server, line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap().trim(), "up");
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"\x10\x11")
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(hull.field(name, "{{.State.Status}}"), "running");
    // Attached again, it still reads.
    let mut again = in_terminal(&server, "docker attach serve-detach")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = again.stdin.take().unwrap();
    let mut lines = BufReader::new(again.stdout.take().unwrap()).lines();
    stdin.write_all(b"hello\n").unwrap();
    // One may be the echo of docker's own terminal, the other is the guest's: it carries now.
    for _ in 0..2 {
        assert_eq!(lines.next().unwrap().unwrap().trim(), "hello");
    }
    stdin.write_all(b"\x04").unwrap();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(rest.iter().any(|line| line.trim() == "done"), "{rest:?}");
    assert!(again.wait().unwrap().success());
}

#[test]
fn clients_that_leave_take_nothing_with_them() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let name = "serve-leave";
    let _removed = Container::named(&hull, name);
    server.ok(&["run", "-d", "--name", name, "busybox", "sleep", "1000"]);
    let sockets = || {
        let directory = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
        let links = directory.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links
            .filter(|link| link.to_string_lossy().starts_with("socket:"))
            .count()
    };
    let before = sockets();
    let commands = [
        &["attach", "--no-stdin", name][..],
        &["logs", "-f", name],
        &["events"],
        &["wait", name],
        &["exec", name, "sleep", "1"],
    ];
    let client = |arguments: &&[&str]| {
        let mut command = server.command(arguments);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let clients: Vec<_> = (0..8)
        .flat_map(|_| commands.iter().map(client).collect::<Vec<_>>())
        .collect();
    eventually("all of them are connected", || sockets() > before + 40);
    for mut client in clients {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    eventually("the server has let go of them", || sockets() <= before);
    assert_eq!(hull.field(name, "{{.State.Status}}"), "running");
}

#[test]
fn a_client_that_does_not_read_costs_no_memory() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let name = "serve-slow";
    let _removed = Container::named(&hull, name);
    let mut child = server
        .command(&[
            "run",
            "--name",
            name,
            "busybox",
            "sh",
            "-c",
            "echo up; exec cat /dev/zero",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    assert_eq!(first, "up\n");
    // The container's output stands still once every buffer on the way is full.
    let sent = || {
        let line = hull.ok(&["exec", name, "cat", "/proc/1/io"]);
        let line = line
            .lines()
            .find(|line| line.starts_with("wchar:"))
            .map(str::to_owned);
        line.unwrap_or_default()
    };
    let mut last = String::new();
    let mut same = 0;
    eventually("the output stands still", || {
        let now = sent();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same >= 3
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 256 << 10, "{kilobytes} kB");
    child.kill().unwrap();
    child.wait().unwrap();
}
