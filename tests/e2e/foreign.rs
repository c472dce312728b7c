//! Programs of other architectures: qemu-user in the guest, whole machines, wrong labels.

use crate::harness::Hull;

#[test]
fn an_arm64_image_runs_as_arm64() {
    let hull = Hull::shared();
    let script = "uname -m; echo $((6 * 7)); exit 5";
    let done = hull.run(&[
        "run",
        "--rm",
        "--platform",
        "linux/arm64",
        "debian",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (5, "aarch64\n42\n"),
        "{done:#?}"
    );
}

#[test]
fn both_architectures_of_an_image_coexist() {
    let hull = Hull::shared();
    let machine = |platform: &str| {
        hull.ok(&[
            "run",
            "--rm",
            "--platform",
            platform,
            "busybox",
            "uname",
            "-m",
        ])
    };
    assert_eq!(machine("linux/amd64"), "x86_64");
    assert_eq!(machine("arm64"), "aarch64");
    assert_eq!(machine("linux/amd64"), "x86_64");
}

#[test]
fn every_architecture_of_the_busybox_image_runs() {
    let hull = Hull::shared();
    for (platform, machine) in [
        ("linux/arm/v7", "armv7l"),
        ("linux/386", "i686"),
        ("linux/riscv64", "riscv64"),
        ("linux/ppc64le", "ppc64le"),
        ("linux/s390x", "s390x"),
    ] {
        let done = hull.run(&[
            "run",
            "--rm",
            "--platform",
            platform,
            "busybox",
            "uname",
            "-m",
        ]);
        assert_eq!(done.code, 0, "{platform}: {done:#?}");
        assert_eq!(done.stdout.trim(), machine, "{platform}");
    }
}

#[test]
fn foreign_programs_start_programs_and_read_proc() {
    let hull = Hull::shared();
    let out = hull.ok(&[
        "run", "--rm", "--platform", "linux/arm64", "debian", "sh", "-c",
        "for i in 1 2 3; do sh -c 'echo $0' a$i | cat; done; cat /proc/1/comm; ls /proc/self/fd | wc -l",
    ]);
    assert!(out.starts_with("a1\na2\na3\nsh\n"), "{out}");
}

#[test]
fn a_mixed_image_runs_both_kinds_of_programs() {
    let hull = Hull::shared();
    let arm = hull.run_binary(&[
        "run",
        "--rm",
        "--platform",
        "linux/arm64",
        "busybox",
        "cat",
        "/bin/busybox",
    ]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("busybox-arm"), arm).unwrap();
    std::process::Command::new("chmod")
        .arg("+x")
        .arg(dir.path().join("busybox-arm"))
        .status()
        .unwrap();
    let volume = format!("{}:/arm:ro", dir.path().display());
    let out = hull.ok(&[
        "run",
        "--rm",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        "uname -m; /arm/busybox-arm uname -m",
    ]);
    assert_eq!(out, "x86_64\naarch64");
}

#[test]
fn a_wrong_platform_label_is_detected_and_explained() {
    let hull = Hull::shared();
    let container = hull.ok(&["create", "--platform", "linux/arm64", "busybox", "true"]);
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("fs.tar");
    let tar = tar.to_str().unwrap();
    hull.ok(&["export", "-o", tar, &container]);
    hull.ok(&["rm", &container]);
    hull.ok(&["import", "--platform", "linux/amd64", tar, "liar:1"]);
    let done = hull.run(&["run", "--rm", "liar:1", "uname", "-m"]);
    assert_eq!((done.code, done.stdout.trim()), (0, "aarch64"), "{done:#?}");
    assert!(
        done.stderr.contains("amd64") && done.stderr.contains("arm64"),
        "{done:#?}"
    );
    hull.ok(&["rmi", "liar:1"]);
}

#[test]
fn a_whole_machine_of_the_architecture_runs_it_too() {
    let hull = Hull::shared();
    for (platform, machine) in [("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")] {
        let done = hull.run(&[
            "run",
            "--rm",
            "--platform",
            platform,
            "--emulation",
            "system",
            "busybox",
            "sh",
            "-c",
            "uname -m; exit 6",
        ]);
        assert_eq!((done.code, done.stdout.trim()), (6, machine), "{done:#?}");
    }
}

#[test]
fn what_nothing_can_run_is_refused() {
    let hull = Hull::shared();
    let error = hull.fails(
        &[
            "run",
            "--rm",
            "--emulation",
            "system",
            "--engine",
            "uml",
            "busybox",
        ],
        125,
    );
    assert!(error.contains("--engine tcg"), "{error}");
}
