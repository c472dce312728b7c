//! Options of `run` that change the container's world.

use crate::harness::Hull;

#[test]
fn a_read_only_root_refuses_writes_and_tmpfs_takes_them() {
    let hull = Hull::shared();
    let script = "touch /x 2>/dev/null || echo refused; touch /scratch/x && echo taken; \
        grep ' /scratch ' /proc/mounts";
    let out = hull.ok(&[
        "run",
        "--rm",
        "--read-only",
        "--tmpfs",
        "/scratch:size=1m",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert!(out.starts_with("refused\ntaken\n"), "{out}");
    assert!(
        out.contains("size=1024k") && out.contains("noexec"),
        "{out}"
    );
}

#[test]
fn memory_and_processors_are_the_guests() {
    let hull = Hull::shared();
    let out = hull.ok(&[
        "run",
        "--rm",
        "--memory",
        "256m",
        "busybox",
        "sh",
        "-c",
        "head -1 /proc/meminfo; nproc",
    ]);
    let total: u64 = out.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((180 << 10..=256 << 10).contains(&total), "{out}");
    assert!(out.ends_with("\n1"), "{out}");
}

#[test]
fn init_reaps_and_forwards() {
    let hull = Hull::shared();
    let out = hull.run(&[
        "run",
        "--rm",
        "--init",
        "busybox",
        "sh",
        "-c",
        "echo $$; exit 5",
    ]);
    assert_eq!(out.code, 5);
    assert_ne!(out.stdout.trim(), "1", "the init is the first process");
    let running = hull.background(&["--init", "busybox", "sleep", "1000"]);
    // sleep alone as the first process would ignore SIGTERM.
    hull.ok(&["stop", "-t", "60", &running.id]);
    assert_eq!(hull.field(&running.id, "{{.State.ExitCode}}"), "143");
}

#[test]
fn limits_ulimits_and_sysctls_apply() {
    let hull = Hull::shared();
    let out = hull.ok(&[
        "run",
        "--rm",
        "--ulimit",
        "nofile=123:456",
        "--shm-size",
        "8m",
        "--sysctl",
        "kernel.shmmni=77",
        "--pids-limit",
        "50",
        "busybox",
        "sh",
        "-c",
        "ulimit -n; ulimit -Hn; df -k /dev/shm | tail -1; cat /proc/sys/kernel/shmmni; \
         cat /sys/fs/cgroup/pids.max",
    ]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines[0], lines[1]), ("123", "456"), "{out}");
    assert!(lines[2].contains("8192"), "{out}");
    assert_eq!((lines[3], lines[4]), ("77", "50"), "{out}");
}

#[test]
fn hosts_and_names_are_provided() {
    let hull = Hull::shared();
    let out = hull.ok(&[
        "run",
        "--rm",
        "--hostname",
        "box",
        "--add-host",
        "db:10.1.2.3",
        "--dns",
        "10.9.9.9",
        "busybox",
        "cat",
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
    ]);
    for part in [
        "127.0.0.1\tlocalhost",
        "10.1.2.3\tdb",
        "\nbox\n",
        "nameserver 10.9.9.9",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn wrong_options_are_refused_in_one_sentence_with_125() {
    let hull = Hull::shared();
    for arguments in [
        &["--memory", "lots"][..],
        &["--memory", "1m"],
        &["--cap-add", "fly"],
        &["--ulimit", "nofile"],
        &["--hostname", "a b"],
        &["-v", "relative/path:/x"],
        &["--platform", "moon"],
        &["--platform", "linux/mips64"],
        &["--network", "nowhere"],
        &["--entrypoint", ""],
        &["--no-such-option"],
        &["--name", "-bad-"],
        &["-w", "relative"],
        &["--engine", "steam"],
    ] {
        let all = [&["run", "--rm", "--pull", "never"], arguments, &["busybox"]].concat();
        let command: &[&str] = if arguments[0] == "--entrypoint" {
            &[]
        } else {
            &["true"]
        };
        let error = hull.fails(&[&all[..], command].concat(), 125);
        assert!(error.starts_with("hull: "), "{arguments:?}: {error}");
        assert!(error.lines().count() <= 2, "{arguments:?}: {error}");
    }
    assert_eq!(
        hull.ok(&[
            "ps",
            "-a",
            "-q",
            "--filter",
            "status=created",
            "--filter",
            "name=-bad-"
        ]),
        ""
    );
}
