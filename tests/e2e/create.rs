//! Options of `run` and `create` that need no group of their own.

use crate::harness::Hull;

#[test]
fn mounts_are_made_as_asked() {
    let hull = Hull::shared();
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("file"), "content\n").unwrap();
    let bind = format!(
        "type=bind,source={},target=/b,readonly",
        host.path().display()
    );
    let script = "cat /b/file; touch /b/x 2>/dev/null || echo refused; \
                  echo kept > /v/f; df -k /t | tail -1; stat -c %a /t";
    let out = hull.ok(&[
        "run",
        "--rm",
        "--mount",
        &bind,
        "--mount",
        "source=mount-test,dst=/v",
        "--mount",
        "type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=700",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["content", "refused"], "{out}");
    assert!(lines[2].contains(" 1024 ") && lines[3] == "700", "{out}");
    let read = hull.ok(&[
        "run",
        "--rm",
        "-v",
        "mount-test:/x",
        "busybox",
        "cat",
        "/x/f",
    ]);
    assert_eq!(read, "kept");
    hull.ok(&["volume", "rm", "mount-test"]);
    for (mount, word) in [
        (
            "type=bind,source=/no/such/place,target=/x",
            "does not exist",
        ),
        ("type=npipe,target=/x,source=a", "not there"),
        ("target=/x,colour=red", "unexpected key"),
    ] {
        let error = hull.fails(&["run", "--mount", mount, "busybox"], 125);
        assert!(error.contains(word), "{error}");
    }
    let twice = [
        "create",
        "-v",
        "/x",
        "--mount",
        "type=tmpfs,target=/x",
        "busybox",
    ];
    assert!(
        hull.fails(&twice, 125)
            .contains("Duplicate mount point: /x")
    );
}

#[test]
fn volumes_come_from_other_containers() {
    let hull = Hull::shared();
    let first = hull.background(&[
        "-v",
        "/data",
        "-v",
        "from-test:/named",
        "busybox",
        "sleep",
        "1000",
    ]);
    hull.ok(&[
        "exec",
        &first.id,
        "sh",
        "-c",
        "echo a > /data/f; echo b > /named/f",
    ]);
    let read = "cat /data/f /named/f; touch /data/x 2>/dev/null || echo refused";
    let from = format!("{}:ro", first.id);
    let out = hull.ok(&[
        "run",
        "--rm",
        "--volumes-from",
        &from,
        "busybox",
        "sh",
        "-c",
        read,
    ]);
    assert_eq!(out, "a\nb\nrefused");
    // The anonymous one is still the first container's.
    assert_eq!(hull.ok(&["exec", &first.id, "cat", "/data/f"]), "a");
    let error = hull.fails(&["run", "--volumes-from", "nobody", "busybox"], 125);
    assert!(error.contains("No such container"), "{error}");
    drop(first);
    hull.ok(&["volume", "rm", "from-test"]);
}

#[test]
fn the_writable_layer_has_the_size_that_was_asked_for() {
    let hull = Hull::shared();
    let fill =
        "dd if=/dev/zero of=/big bs=1M count=200 2>&1 | grep -o 'No space' ; df -m / | tail -1";
    let out = hull.ok(&[
        "run",
        "--rm",
        "--storage-opt",
        "size=100m",
        "busybox",
        "sh",
        "-c",
        fill,
    ]);
    assert!(out.starts_with("No space"), "{out}");
    for (size, word) in [("1k", "between 64m and 1t"), ("many", "invalid size")] {
        let option = format!("size={size}");
        let error = hull.fails(&["create", "--storage-opt", &option, "busybox"], 125);
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn disks_can_be_slowed_down() {
    let hull = Hull::shared();
    // A limit keeps to the clock of the guest too, which tells how long writing took.
    let write =
        "dd if=/dev/zero of=/f bs=1M count=4 conv=fsync 2>/dev/null; cut -d' ' -f1 /proc/uptime";
    let script = format!("cut -d' ' -f1 /proc/uptime; {write}");
    let limit = ["--device-write-bps", "/dev/sda:2m"];
    // Kept, as one with --rm would not wait for its disk.
    let slow = hull.background(&[&limit[..], &["busybox", "sh", "-c", &script]].concat());
    hull.ok(&["wait", &slow.id]);
    let out = hull.ok(&["logs", &slow.id]);
    let times: Vec<f64> = out.lines().map(|line| line.parse().unwrap()).collect();
    // A tenth of a second's budget is saved up, and the last request may overdraw it.
    assert!(times[1] - times[0] > 1.0, "{out}");
    let error = hull.fails(&["create", "--device-read-bps", "sda:1m", "busybox"], 125);
    assert!(error.contains("DEVICE:RATE"), "{error}");
}

#[test]
fn processors_of_the_host_can_be_chosen() {
    let hull = Hull::shared();
    let running = hull.background(&["--cpuset-cpus", "0", "busybox", "sleep", "1000"]);
    for field in ["SupervisorPid", "State.Pid"] {
        let pid = hull.field(&running.id, &format!("{{{{.{field}}}}}"));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    }
    let error = hull.fails(&["create", "--cpuset-cpus", "1000", "busybox"], 125);
    assert!(error.contains("not available"), "{error}");
}

#[test]
fn streams_can_be_attached_one_by_one() {
    let hull = Hull::shared();
    let both = ["busybox", "sh", "-c", "echo out; echo err >&2"];
    let only = hull.run(&[&["run", "--rm", "-a", "STDERR"], &both[..]].concat());
    assert_eq!((only.stdout.as_str(), only.stderr.as_str()), ("", "err\n"));
    let error = hull.fails(&[&["run", "-d", "-a", "stdout"], &both[..]].concat(), 125);
    assert!(error.contains("conflicting options"), "{error}");
}

#[test]
fn labels_notes_and_names_are_recorded() {
    let hull = Hull::shared();
    let directory = tempfile::tempdir().unwrap();
    let labels = directory.path().join("labels");
    std::fs::write(&labels, "# a comment\n\na=1\nb\n").unwrap();
    let cidfile = directory.path().join("cid");
    let id = hull.ok(&[
        "create",
        "--label-file",
        labels.to_str().unwrap(),
        "-l",
        "a=2",
        "--annotation",
        "note=x",
        "--domainname",
        "example.org",
        "--log-opt",
        "max-size=64k",
        "--cidfile",
        cidfile.to_str().unwrap(),
        "busybox",
        "sh",
        "-c",
        "cat /proc/sys/kernel/domainname; seq 1 40000",
    ]);
    assert_eq!(std::fs::read_to_string(&cidfile).unwrap(), id);
    assert_eq!(
        hull.field(&id, "{{.Config.Labels.a}}{{.Config.Labels.b}}"),
        "2"
    );
    assert_eq!(hull.field(&id, "{{.HostConfig.Annotations.note}}"), "x");
    let out = hull.ok(&["start", "-a", &id]);
    assert!(out.starts_with("example.org\n1\n2\n"));
    // Of 200 kilobytes only the last two files of 64 are kept.
    let kept = hull.ok(&["logs", &id]);
    assert!(
        kept.len() < 200_000 && kept.ends_with("\n40000"),
        "{}",
        kept.len()
    );
    assert_eq!(hull.ok(&["logs", "--details", "-n", "1", &id]), " 40000");
    hull.ok(&["rm", &id]);
}

#[test]
fn what_a_guest_cannot_have_is_refused_and_what_changes_nothing_is_said() {
    let hull = Hull::shared();
    for (options, word) in [
        (&["--device", "/dev/null"][..], "devices of the host"),
        (&["--gpus", "all"], "devices of the host"),
        (&["--pid", "host"], "kernel of its own"),
        (&["--ipc", "host"], "kernel of its own"),
        (&["--volume-driver", "nfs"], "use local"),
        (&["--log-opt", "tag=x"], "max-size"),
        (&["--cpu-period", "1", "--cpu-quota", "1"], "CPU period"),
    ] {
        let error = hull.fails(&[&["create"], options, &["busybox"]].concat(), 125);
        assert!(error.contains(word), "{error}");
    }
    let done = hull.run(&[
        "run",
        "--rm",
        "--cpu-shares",
        "512",
        "--memory-swap",
        "-1",
        "--pid",
        "private",
        "--cpu-period",
        "100000",
        "--cpu-quota",
        "50000",
        "busybox",
        "nproc",
    ]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "1\n"), "{done:?}");
    let sentence = "hull: --memory-swap changes nothing";
    assert!(done.stderr.contains(sentence), "{done:?}");
}

#[test]
fn commit_keeps_health_check_and_volumes() {
    let hull = Hull::shared();
    let id = hull.ok(&[
        "create",
        "--health-cmd",
        "test -e /x",
        "--health-interval",
        "5s",
        "-v",
        "/data",
        "busybox",
    ]);
    hull.ok(&["commit", &id, "create-kept"]);
    let kept = "{{json .Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}} \
                {{json .Config.Volumes}}";
    assert_eq!(
        hull.field("create-kept", kept),
        "[\"CMD-SHELL\",\"test -e /x\"] 5000000000 {\"/data\":{}}"
    );
    hull.ok(&["rm", "-v", &id]);
    hull.ok(&["rmi", "create-kept"]);
}
