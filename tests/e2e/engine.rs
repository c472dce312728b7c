//! What may be demanded of an engine, and how to look into one.

use std::fs;

use crate::harness::{Hull, engine};

#[test]
fn rules_for_images_demand_a_boundary() {
    let hull = Hull::shared();
    // Hidden where there is none, so that no engine is strong enough, whatever this host is.
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("config.toml");
    let rules = "[defaults]\nengine = 'tcg'\n[images.'docker.io/library/busybox']\nisolation = 'hardware'\n\
        [images.'debian']\nisolation = 'kernel'\n";
    fs::write(&settings, rules).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = hull.command(arguments);
        command.env("HULL_CONFIG", &settings).output().unwrap()
    };
    let id = hull.field("busybox", "{{.Id}}");
    for image in ["busybox", "docker.io/library/busybox:latest", &id] {
        for flags in [&[][..], &["--isolation", "any"]] {
            let output = run(&[&["run", "--rm"], flags, &[image, "true"]].concat());
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(125), "{image}: {error}");
            assert!(
                error.contains("isolation hardware was asked for"),
                "{error}"
            );
            assert!(error.contains("engine tcg"), "{error}");
        }
    }
    let output = run(&["create", "debian", "true"]);
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(hull.field(&id, "{{.Config.Isolation}}"), "kernel");
    hull.ok(&["rm", &id]);
    fs::write(&settings, "[images.'busybox']\nisolation = 'steel'\n").unwrap();
    let output = run(&["ps"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("line 2"),
        "{error}"
    );
}

#[test]
fn the_kernel_is_shown_when_asked_for() {
    let hull = Hull::shared();
    let script = "echo out; exit 4";
    let done = hull.run(&["run", "--rm", "--console", "busybox", "sh", "-c", script]);
    assert_eq!((done.code, done.stdout.as_str()), (4, "out\n"), "{done:#?}");
    // From the first words to those when everything is mounted.
    for words in [
        "Linux version",
        "Free page reporting enabled",
        "EXT4-fs (vdb): mounted",
    ] {
        assert!(done.stderr.contains(words), "{words}: {done:#?}");
    }
    let error = hull.fails(&["run", "-d", "--console", "busybox", "true"], 125);
    assert!(error.contains("--console and --detach"), "{error}");
}

#[test]
fn going_without_the_jail_is_told_every_time() {
    let hull = Hull::shared();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "shared").unwrap();
    let volume = format!("{}:/mnt", directory.path().display());
    let mut flags = vec!["run", "--no-jail", "--name", "no-jail", "-v", &volume];
    flags.extend(["busybox", "cat", "/mnt/file"]);
    let done = hull.run(&flags);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "shared"),
        "{done:#?}"
    );
    assert!(done.stderr.contains("warning: --no-jail"), "{done:#?}");
    let again = hull.run(&["start", "-a", "no-jail"]);
    assert_eq!(again.stdout, "shared", "{again:#?}");
    assert!(again.stderr.contains("warning: --no-jail"), "{again:#?}");
    assert_eq!(hull.field("no-jail", "{{.Config.NoJail}}"), "true");
    hull.ok(&["rm", "no-jail"]);

    // What it is for: a debugger gets at the processes, which nothing confines.
    let open = hull.background(&["--no-jail", "busybox", "sleep", "1000"]);
    let jailed = hull.background(&["busybox", "sleep", "1000"]);
    let filters = |id: &str| {
        let waiter = hull.field(id, "{{.State.Pid}}");
        let children = format!("/proc/{waiter}/task/{waiter}/children");
        let child = fs::read_to_string(children).unwrap();
        let child = child.split_whitespace().next().unwrap();
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("Seccomp:"));
        line.unwrap().to_owned()
    };
    assert_eq!(filters(&open.id), "Seccomp:\t0", "{}", engine());
    assert_eq!(filters(&jailed.id), "Seccomp:\t2", "{}", engine());
}
