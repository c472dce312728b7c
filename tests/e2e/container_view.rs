//! What a program inside sees: a container, on a kernel of its own.

use crate::harness::Hull;

#[test]
fn processes_files_and_mounts_look_like_a_containers() {
    let hull = Hull::shared();
    let out = hull.ok(&[
        "run",
        "--rm",
        "debian",
        "sh",
        "-c",
        "id; . /etc/os-release; echo $ID; cat /proc/1/comm; echo $$; ls -d /proc/[0-9]* | wc -l",
    ]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "uid=0(root) gid=0(root) groups=0(root)");
    assert_eq!(&lines[1..4], ["debian", "sh", "1"]);
    // The shell, ls and the pipe's other end: never the agent or kernel threads.
    assert!(lines[4].parse::<u32>().unwrap() <= 4, "{out}");
}

#[test]
fn the_overlay_lists_every_layer_of_the_image() {
    let hull = Hull::shared();
    let mount = hull.ok(&[
        "run",
        "--rm",
        "debian",
        "grep",
        " / overlay ",
        "/proc/mounts",
    ]);
    let layers = hull
        .field("debian", "{{len .RootFS.Layers}}")
        .parse::<usize>()
        .unwrap();
    let shown = mount.matches("lowerdir+=").count().max(
        mount
            .split("lowerdir=")
            .nth(1)
            .map_or(0, |l| l.split(',').next().unwrap().split(':').count()),
    );
    assert_eq!(shown, layers, "{mount}");
}

#[test]
fn the_agent_can_be_neither_seen_nor_signalled() {
    let hull = Hull::shared();
    let script =
        "cat /proc/*/comm | sort | uniq; kill -9 -1; cat /proc/*/comm >/dev/null; echo alive";
    let out = hull.ok(&["run", "--rm", "--privileged", "busybox", "sh", "-c", script]);
    assert!(
        !out.contains("agent") && !out.contains("init") && out.ends_with("alive"),
        "{out}"
    );
}

#[test]
fn devices_and_kernel_files_are_dockers() {
    let hull = Hull::shared();
    let script = "ls /dev; cat /dev/null; head -c 4 /dev/zero | wc -c; echo x > /dev/full || echo full; \
        cat /proc/kcore | wc -c; cat /proc/sysrq-trigger; touch /proc/sys/kernel/hostname 2>&1";
    let done = hull.run(&["run", "--rm", "debian", "sh", "-c", script]);
    for device in [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd",
    ] {
        assert!(
            done.stdout.lines().any(|line| line == device),
            "{device}: {done:#?}"
        );
    }
    assert!(
        !done.stdout.contains("vda"),
        "block devices are not the container's: {done:#?}"
    );
    assert!(done.stdout.lines().any(|line| line == "full" && done.stdout.matches("full").count() == 2));
    let write = hull.run(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "echo a > /proc/sys/kernel/hostname",
    ]);
    assert_ne!(write.code, 0, "/proc/sys is read-only: {write:#?}");
}

#[test]
fn default_capabilities_are_dockers() {
    let hull = Hull::shared();
    let caps = |arguments: &[&str]| {
        let command = ["busybox", "grep", "Cap", "/proc/self/status"];
        hull.ok(&[&["run", "--rm"], arguments, &command].concat())
    };
    let own = caps(&[]);
    assert!(own.contains("CapEff:\t00000000a80425fb"), "{own}");
    assert!(own.contains("CapBnd:\t00000000a80425fb"), "{own}");
    let user = caps(&["-u", "1000"]);
    assert!(user.contains("CapEff:\t0000000000000000"), "{user}");
    let none = caps(&["--cap-drop", "all"]);
    assert!(none.contains("CapBnd:\t0000000000000000"), "{none}");
    let more = caps(&["--cap-drop", "all", "--cap-add", "net_admin"]);
    assert!(more.contains("CapEff:\t0000000000001000"), "{more}");
    let all = caps(&["--privileged"]);
    assert!(all.contains("CapEff:\t000001ffffffffff"), "{all}");
}

#[test]
fn no_descriptor_of_the_agent_leaks_into_the_container() {
    let hull = Hull::shared();
    let out = hull.ok(&["run", "--rm", "busybox", "ls", "/proc/self/fd"]);
    assert_eq!(out, "0\n1\n2\n3", "3 is ls's own");
}
