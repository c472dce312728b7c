//! Users, programs, capabilities, terminals, signals, ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use guest_agent::protocol::runtime::{Capabilities, Rlimit};
use guest_agent::protocol::{ErrorKind, MAIN_PROCESS, Request, Resize, Response, WindowSize};

use crate::harness::{Guest, possible};
use crate::talk::{close_stdin, exec, read_until, shell, start, stream_out, terminal, write_stdin};

const NOTHING: &dyn Fn(&std::path::Path) = &|_| {};

#[test]
fn output_and_status_come_back() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let outcome = guest.run(shell("echo out; echo err >&2; exit 7"));
    assert_eq!(
        (outcome.text().as_str(), outcome.stderr.as_slice()),
        ("out\n", &b"err\n"[..])
    );
    assert_eq!((outcome.exit.code, outcome.exit.oom_killed), (7, false));
    let (_, again) = guest.request(Request::Start(Box::new(shell("true"))));
    assert!(matches!(again, Response::Error(e) if e.kind == ErrorKind::Invalid));
}

#[test]
fn the_container_sees_itself_only() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let outcome = guest.run(shell(
        "hostname; echo $$ $PPID $HOME; pwd; ls /proc/self/fd | wc -l; set -- /proc/[0-9]*; echo $#;
         cat /proc/1/comm; cat /proc/self/oom_score_adj; grep ^0: /proc/self/cgroup; umask;
         grep -c . /proc/self/mounts; grep -E 'layers|/writable |/merged|emulators' /proc/self/mounts | cut -d' ' -f2;",
    ));
    let text = outcome.text();
    let lines: Vec<&str> = text.lines().collect();
    // Descriptors: three and the one that ls reads with. Processes: sh alone.
    assert_eq!(lines[..4], ["box", "1 0 /root", "/", "4"], "{text}");
    assert_eq!(lines[4..9], ["1", "sh", "0", "0::/", "0022"], "{text}");
    assert_eq!(lines[10], "/", "only the root names layers: {text}");
}

#[test]
fn programs_start_with_signals_as_the_kernel_makes_them() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let text = guest
        .run(start(&["/bin/grep", "^Sig", "/proc/self/status"]))
        .text();
    let set = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(set("SigBlk:"), 0, "{text}");
    // Signals 32 and 33 belong to the C library, which does not let the harness reset them.
    assert_eq!(set("SigIgn:") & !(3 << 31), 0, "{text}");
}

#[test]
fn users_are_dockers() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let _main = guest.idle();
    for (user, groups, expected) in [
        (
            "app",
            vec![],
            "uid=1000(app) gid=1001(app) groups=44(video),1001(app) /home/app",
        ),
        (
            "1000:10",
            vec![],
            "uid=1000(app) gid=10(wheel) groups=10(wheel) /home/app",
        ),
        ("4321", vec![], "uid=4321 gid=0(root) groups=0(root) /"),
        (
            "root",
            vec!["video"],
            "uid=0(root) gid=0(root) groups=0(root),10(wheel),44(video) /root",
        ),
        ("", vec![], "uid=0(root) gid=0(root) /root"),
    ] {
        let mut request = exec("who", "echo $(id) $HOME; echo > /dev/stdout");
        request.user = user.to_owned();
        request.groups = groups.into_iter().map(str::to_owned).collect();
        let outcome = stream_out(guest.begin(request));
        assert_eq!(outcome.text().trim(), expected, "{user:?}");
        assert_eq!(outcome.stderr, b"", "{user:?}");
    }
    let mut request = exec("who", "id");
    request.user = "nobody".to_owned();
    let error = guest.exec_refused(request);
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(
        error.message,
        "unable to find user nobody: no matching entries in passwd file"
    );
}

#[test]
fn what_cannot_run_is_refused_with_the_reason() {
    if !possible() {
        return;
    }
    let guest = Guest::new(&|root| {
        let file = |name: &str, content: &[u8], mode: u32| {
            fs::create_dir_all(root.join("opt")).unwrap();
            fs::write(root.join("opt").join(name), content).unwrap();
            fs::set_permissions(
                root.join("opt").join(name),
                fs::Permissions::from_mode(mode),
            )
            .unwrap();
        };
        file("plain", b"text", 0o644);
        file("text", b"text", 0o755);
        file("lost", b"#!/opt/bash\n", 0o755);
        file("foreign", &foreign_program(), 0o755);
        fs::create_dir(root.join("opt/fifo")).unwrap();
    });
    let _main = guest.idle();
    for (program, kind, message) in [
        (
            "nope",
            ErrorKind::NotFound,
            "exec: \"nope\": executable file not found in $PATH",
        ),
        (
            "/nope",
            ErrorKind::NotFound,
            "exec: \"/nope\": stat /nope: no such file or directory",
        ),
        (
            "/opt/plain",
            ErrorKind::NotExecutable,
            "exec: \"/opt/plain\": permission denied",
        ),
        (
            "/opt",
            ErrorKind::NotExecutable,
            "exec: \"/opt\": is a directory",
        ),
        (
            "/opt/text",
            ErrorKind::NotExecutable,
            "exec /opt/text: exec format error: it is neither",
        ),
        (
            "/opt/lost",
            ErrorKind::NotFound,
            "exec /opt/lost: no such file or directory: the interpreter \"/opt/bash\"",
        ),
        (
            "/opt/foreign",
            ErrorKind::NotExecutable,
            "exec /opt/foreign: exec format error: the program /opt/foreign is for s390x, and nothing in this guest runs s390x",
        ),
    ] {
        let mut request = exec("bad", "");
        request.process.args = vec![program.to_owned()];
        let error = guest.exec_refused(request);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.starts_with(message), "{error}");
    }
    let mut request = exec("bad", "true");
    request.process.cwd = "/gone".into();
    let error = guest.exec_refused(request);
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(
        error.message,
        "cannot change to working directory /gone: no such file or directory"
    );
    assert_eq!(guest.exec("good", "echo still").text(), "still\n");
}

/// The header of a program that no test machine runs.
fn foreign_program() -> Vec<u8> {
    let mut program = vec![0u8; 120];
    program[..7].copy_from_slice(b"\x7fELF\x02\x02\x01");
    program[16..20].copy_from_slice(&[0, 2, 0, 22]);
    program
}

#[test]
fn a_wrong_platform_label_is_refused_or_told() {
    if !possible() {
        return;
    }
    let put = |root: &std::path::Path| {
        fs::write(root.join("program"), foreign_program()).unwrap();
        fs::set_permissions(root.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let error = Guest::new(&put).refused(start(&["/program"]));
    assert_eq!(error.kind, ErrorKind::NotExecutable);
    let native = start(&[]).architecture;
    let facts = format!("the image says it is for {native}, but its program /program is for s390x");
    assert!(error.message.contains(&facts), "{error}");

    let mut lie = shell("true");
    lie.architecture = "s390x".to_owned();
    let (stream, response) = Guest::new(NOTHING).request(Request::Start(Box::new(lie)));
    let Response::Ok { warnings, .. } = response else {
        panic!("{response:?}")
    };
    let facts = format!("the image says it is for s390x, but its program /bin/sh is for {native}");
    assert_eq!(warnings, [facts]);
    drop(stream);
}

#[test]
fn capabilities_are_dockers_defaults() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let _main = guest.idle();
    let script = "grep -E 'Cap|NoNewPrivs' /proc/self/status | cut -f2";
    let docker = "00000000a80425fb";
    let none = "0000000000000000";
    let root = guest.exec("a", script).text();
    let lines: Vec<&str> = root.lines().collect();
    assert_eq!(lines, [none, docker, docker, docker, none, "0"]);

    let mut user = exec("b", script);
    user.user = "1000".to_owned();
    user.process.no_new_privileges = true;
    let user = stream_out(guest.begin(user)).text();
    let lines: Vec<&str> = user.lines().collect();
    assert_eq!(lines, [none, none, none, docker, none, "1"]);

    let mut bare = exec("c", script);
    bare.process.capabilities = Capabilities::default();
    let bare = stream_out(guest.begin(bare)).text();
    assert_eq!(bare.lines().nth(3), Some(none), "{bare}");

    let mut ambient = exec("d", script);
    ambient.user = "1000".to_owned();
    let sets = &mut ambient.process.capabilities;
    sets.inheritable = vec!["CAP_CHOWN".to_owned()];
    sets.ambient = sets.inheritable.clone();
    let ambient = stream_out(guest.begin(ambient)).text();
    assert_eq!(
        ambient.lines().nth(4),
        Some("0000000000000001"),
        "{ambient}"
    );
    assert_eq!(
        ambient.lines().nth(2),
        Some("0000000000000001"),
        "{ambient}"
    );
}

#[test]
fn limits_directory_and_umask_are_applied() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let mut request = shell("pwd; ulimit -n; ulimit -Hn; umask; stat -c %a .");
    let process = request.spec.process.as_mut().unwrap();
    process.cwd = "/made/for/this".into();
    process.rlimits = vec![Rlimit {
        kind: "RLIMIT_NOFILE".to_owned(),
        soft: 77,
        hard: 99,
    }];
    process.user.umask = Some(0o077);
    assert_eq!(
        guest.run(request).text(),
        "/made/for/this\n77\n99\n0077\n755\n"
    );
}

#[test]
fn a_terminal_is_a_terminal() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let mut request = shell(
        "tty; stty size; trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.1; done",
    );
    request.stdio = terminal(24, 80);
    let mut main = guest.start(request);
    let seen = read_until(&mut main, "ready");
    assert_eq!(
        seen,
        "/dev/pts/0\r\n24 80\r\nready\r\n"
            .get(..seen.len())
            .unwrap()
    );

    let mut request = exec("shell", "exec sh -i");
    request.stdio = terminal(30, 100);
    let mut second = guest.begin(request);
    write_stdin(
        &mut second,
        b"tty; stty size; ls -l /dev/console | cut -c1\n",
    );
    read_until(&mut second, "/dev/pts/1\r\n30 100\r\nc\r\n");
    write_stdin(&mut second, b"sh -c 'echo st$((1))arted; exec cat'\n");
    read_until(&mut second, "st1arted");
    // Ctrl-C ends cat, not the shell; Ctrl-D ends the shell.
    write_stdin(&mut second, b"\x03");
    read_until(&mut second, "# ");
    write_stdin(&mut second, b"echo alive$((1+1))\n");
    read_until(&mut second, "alive2\r\n/ # ");
    write_stdin(&mut second, b"\x04");
    assert_eq!(stream_out(second).exit.code, 0);

    let size = WindowSize {
        rows: 50,
        columns: 132,
    };
    let resize = |process: &str| {
        Request::Resize(Resize {
            process: process.to_owned(),
            size,
        })
    };
    assert!(matches!(
        guest.request(resize(MAIN_PROCESS)).1,
        Response::Ok { .. }
    ));
    let outcome = stream_out(main);
    assert!(outcome.text().ends_with("50 132\r\n"), "{}", outcome.text());
    assert_eq!(outcome.exit.code, 3);
    let gone = guest.request(resize("shell")).1;
    assert!(matches!(gone, Response::Error(e) if e.kind == ErrorKind::NoSuchProcess));
}

#[test]
fn signals_reach_processes_by_name() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let main = guest.idle();
    let mut other = guest.begin(exec(
        "other",
        "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done",
    ));
    read_until(&mut other, "ready");
    assert!(matches!(
        guest.signal("other", libc_signal("USR1")),
        Response::Ok { .. }
    ));
    read_until(&mut other, "usr1");
    // A real-time signal without a handler ends the process.
    guest.signal("other", 40);
    assert_eq!(stream_out(other).exit.code, 168);
    for process in ["other", "never", ""] {
        let response = guest.signal(process, 15);
        assert!(matches!(response, Response::Error(e) if e.kind == ErrorKind::NoSuchProcess));
    }
    assert!(matches!(guest.signal("main", 99), Response::Error(e) if e.kind == ErrorKind::Invalid));
    guest.signal("main", 15);
    assert_eq!(stream_out(main).exit.code, 0);
}

fn libc_signal(name: &str) -> i32 {
    match name {
        "USR1" => 10,
        other => panic!("{other}"),
    }
}

#[test]
fn the_end_of_the_first_process_ends_all() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let main = guest.idle();
    let mut other = guest.begin(exec("other", "echo ready; exec sleep 1000"));
    read_until(&mut other, "ready");
    let taken = guest.exec_refused(exec("other", "true"));
    assert_eq!(taken.kind, ErrorKind::Invalid);
    guest.signal("main", 9);
    assert_eq!(stream_out(main).exit.code, 137);
    assert_eq!(stream_out(other).exit.code, 137);
    assert_eq!(
        guest.exec_refused(exec("late", "true")).kind,
        ErrorKind::NoSuchProcess
    );
}

#[test]
fn output_of_orphans_is_waited_for_but_not_for_ever() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let _main = guest.idle();
    let outcome = guest.exec("quick", "(sleep 0.3; echo late) & echo early");
    assert_eq!(outcome.text(), "early\nlate\n");
    let before = std::time::Instant::now();
    let outcome = guest.exec("slow", "(sleep 1000; echo never) & echo early; exit 4");
    assert_eq!((outcome.text().as_str(), outcome.exit.code), ("early\n", 4));
    assert!(before.elapsed().as_secs() < 60);
    // One that writes for ever is cut off too.
    let outcome = guest.exec("endless", "yes & exit 5");
    assert_eq!(outcome.exit.code, 5);
}

#[test]
fn init_forwards_reaps_and_ends_as_its_child() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let mut request = shell(
        "cat /proc/1/comm; echo $$; (sleep 0.01 &) ; trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done",
    );
    request.init = true;
    let mut main = guest.start(request);
    let text = read_until(&mut main, "ready");
    assert!(text.starts_with("hull-init\n2\n"), "{text}");
    // The orphan is reaped by the init: no zombie stays.
    let text = guest
        .exec(
            "look",
            "while ps -o stat,comm | grep -q '^Z'; do sleep 0.05; done; ls -l /proc/1/fd",
        )
        .text();
    assert_eq!(text, "total 0\n");
    guest.signal("main", 15);
    assert_eq!(stream_out(main).exit.code, 9);

    let guest = Guest::new(NOTHING);
    let mut request = start(&["/nope"]);
    request.init = true;
    assert_eq!(guest.refused(request).kind, ErrorKind::NotFound);
}

#[test]
fn stdin_ends_when_the_host_says_so() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let mut request = start(&["/bin/wc", "-c"]);
    request.stdio.stdin = true;
    let mut main = guest.start(request);
    write_stdin(&mut main, b"12345");
    write_stdin(&mut main, b"");
    write_stdin(&mut main, b"678");
    close_stdin(&mut main);
    assert_eq!(stream_out(main).text(), "8\n");
}
