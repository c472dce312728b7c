//! What builds leave, and how that is bounded.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::Project;
use crate::harness::Hull;

#[test]
fn steps_and_caches_are_pruned() {
    let hull = Hull::fresh();
    let project = Project::new(
        "FROM busybox\nRUN --mount=type=cache,target=/c head -c 100000 /dev/zero > /c/x; echo 1 > /1\nRUN echo 2 > /2\n",
        &[],
    );
    project.build(&hull, &["-t", "kept"]);
    project.write("Dockerfile", "FROM busybox\nRUN echo other > /o\n");
    project.build(&hull, &[]);
    let count = || hull.ok(&["images", "-a", "-q"]).lines().count();
    assert_eq!(count(), 4);
    hull.ok(&["builder", "prune", "-a", "-f", "--filter", "until=24h"]);
    assert_eq!(count(), 4);
    let done = hull.ok(&["builder", "prune", "-f"]);
    assert_eq!(done.matches("deleted: ").count(), 1, "{done}");
    assert_eq!(count(), 3);
    assert!(!hull.root().join("build-cache").exists());
    let done = hull.ok(&["builder", "prune", "-a", "-f"]);
    assert_eq!(done.matches("deleted: ").count(), 1, "{done}");
    assert_eq!(hull.ok(&["run", "--rm", "kept", "cat", "/1", "/2"]), "1\n2");
}

#[test]
fn prunes_leave_what_a_running_build_uses() {
    let hull = Hull::fresh();
    // It tells where it is, and goes on when it is told to.
    let wait = "echo waiting; until [ -e /c/go ]; do sleep 0.1; done";
    let dockerfile = format!(
        "FROM busybox AS one\nRUN echo 1 > /1\nRUN --mount=type=cache,target=/c {wait}\nRUN cat /1 > /2\n\
         FROM busybox\nCOPY --from=one /2 /3\nRUN cat /3\n"
    );
    let project = Project::new(&dockerfile, &[]);
    let mut command = hull.command(&["build", "--progress", "plain", "-t", "late"]);
    let mut build = command
        .arg(project.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(build.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "waiting"));
    for prune in [
        &["image", "prune", "-a", "-f"][..],
        &["builder", "prune", "-a", "-f"],
    ] {
        hull.ok(prune);
    }
    // The base and the first step are all there is, and are still there.
    assert_eq!(hull.ok(&["images", "-aq"]).lines().count(), 2);
    let caches = fs::read_dir(hull.root().join("build-cache")).unwrap();
    let caches = caches.map(|entry| entry.unwrap().path());
    let cache = caches.into_iter().find(|path| path.is_dir()).unwrap();
    fs::write(cache.join("go"), "").unwrap();
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert!(build.wait().unwrap().success(), "{rest:#?}");
    assert_eq!(hull.ok(&["run", "--rm", "late", "cat", "/3"]), "1");
    // Afterwards what has no name is anybody's.
    let gone = hull.ok(&["image", "prune", "-a", "-f"]);
    assert!(gone.contains("untagged: late:latest"), "{gone}");
    assert_eq!(hull.ok(&["images", "-aq"]), "");
}

/// Bytes that a step writes, which do not compress.
fn megabytes(count: u32, name: &str) -> String {
    format!("FROM busybox\nRUN head -c {count}000000 /dev/urandom > /{name}\n")
}

#[test]
fn the_longest_unused_goes_until_so_much_is_left() {
    let hull = Hull::fresh();
    let project = Project::new("", &[]);
    let build = |dockerfile: &str, arguments: &[&str]| {
        project.write("Dockerfile", dockerfile);
        project.id(&hull, arguments)
    };
    let first = build(&megabytes(3, "first"), &[]);
    let second = build(&megabytes(3, "second"), &[]);
    let kept = build(&megabytes(3, "kept"), &["-t", "kept"]);
    let there = |id: &str| hull.run(&["image", "inspect", id]).code == 0;
    // All fits.
    hull.ok(&["builder", "prune", "-f", "--keep-storage", "1g"]);
    assert!(there(&first) && there(&second));
    let done = hull.ok(&["builder", "prune", "-f", "--max-used-space", "7mb"]);
    assert_eq!(done.matches("deleted: ").count(), 1, "{done}");
    assert!(there(&first) != there(&second));
    hull.ok(&["builder", "prune", "-f", "--keep-storage", "0"]);
    assert!(!there(&first) && !there(&second) && there(&kept));
    assert_eq!(
        hull.ok(&["run", "--rm", "kept", "wc", "-c", "/kept"]),
        "3000000 /kept"
    );
}

#[test]
fn the_settings_bound_what_builds_keep() {
    let hull = Hull::fresh();
    let known = std::env::var("HULL_CONFIG").unwrap_or_else(|_| {
        let path = crate::harness::repository().join("target/demo/config.toml");
        path.display().to_string()
    });
    let settings = tempfile::NamedTempFile::new().unwrap();
    let text = fs::read_to_string(known).unwrap() + "\n[builds]\nkeep-bytes = 8000000\n";
    fs::write(settings.path(), text).unwrap();
    let project = Project::new("", &[]);
    let build = |dockerfile: &str, arguments: &[&str]| {
        project.write("Dockerfile", dockerfile);
        let path = project.path().to_str().unwrap();
        let mut command = hull.command(&[&["build", "-q"], arguments, &[path]].concat());
        let output = command
            .env("HULL_CONFIG", settings.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let there = |id: &str| hull.run(&["image", "inspect", id]).code == 0;
    let named = build(&megabytes(9, "named"), &["-t", "named"]);
    // The newest stays however large it is, and so does what has a name.
    let large = build(&megabytes(9, "large"), &[]);
    assert!(there(&named) && there(&large));
    let small = build(&megabytes(1, "small"), &[]);
    assert!(there(&named) && !there(&large) && there(&small));
    // Caches of commands count, too, and one that a build has stays.
    let cache = "FROM busybox\nRUN --mount=type=cache,target=/c head -c 9000000 /dev/urandom > /c/x; echo 1\n";
    build(cache, &[]);
    let again = build(
        "FROM busybox\nRUN --mount=type=cache,target=/c ls /c > /seen; echo 2\n",
        &["-t", "seen"],
    );
    assert!(there(&again));
    let seen = hull.ok(&["run", "--rm", "seen", "cat", "/seen"]);
    assert!(seen.is_empty() || seen == "x", "{seen}");
}

#[test]
fn flags_about_limits_do_what_they_can() {
    let hull = Hull::shared();
    let project = Project::new("FROM busybox\nRUN ulimit -n\n", &[]);
    let flags = [
        "--no-cache",
        "--ulimit",
        "nofile=77:88",
        "--rm",
        "--force-rm",
        "--compress",
        "--load",
        "--security-opt",
        "seccomp=unconfined",
        "--cpu-shares",
        "2",
        "--memory-swap",
        "-1",
    ];
    let done = project.run(&hull, &flags);
    assert!(
        done.code == 0 && done.stdout.contains("\n77\n"),
        "{done:#?}"
    );
    let told = "hull: warning: --memory-swap changes nothing: a guest has no swap\n";
    assert!(done.stderr.starts_with(told), "{done:#?}");
}

#[test]
fn names_stand_for_other_images_and_files() {
    let hull = Hull::shared();
    let project = Project::new(
        "FROM base AS built\nRUN echo in the stage > /where\nFROM base\nCOPY --from=files f /f\nCOPY --from=built /where /\n\
         RUN --mount=from=files,target=/m cat /f /m/f /where\n",
        &[],
    );
    let files = Project::new(
        "",
        &[
            ("f", "from elsewhere\n"),
            ("ignored", ""),
            (".dockerignore", "ignored\n"),
        ],
    );
    fs::create_dir(project.path().join("instead")).unwrap();
    let files = format!("FILES={}", files.path().display());
    let base = "base=docker-image://busybox";
    let out = project.build(
        &hull,
        &[
            "--no-cache",
            "--build-context",
            base,
            "--build-context",
            &files,
        ],
    );
    assert!(
        out.contains("\nfrom elsewhere\nfrom elsewhere\nin the stage\n"),
        "{out}"
    );
    let error = project.fails(
        &hull,
        &[
            "--build-context",
            &files,
            "--build-context",
            "base=/nowhere",
        ],
        1,
    );
    assert!(error.contains("/nowhere is no directory"), "{error}");
    let instead = format!("base={}", project.path().display());
    let error = project.fails(&hull, &["--build-context", &instead], 1);
    assert!(error.contains("which no stage can begin with"), "{error}");
}
