//! Steps: images, cache, failures, stages, reproducibility.

use std::os::unix::fs::PermissionsExt;
use std::{fs, thread};

use super::Project;
use crate::harness::{Hull, alive};

#[test]
fn a_failed_step_leaves_the_image_before_it_to_enter() {
    let hull = Hull::shared();
    let project = Project::new(
        "FROM busybox\nRUN echo hello > test.txt\n# deliberately break\nRUN exit 7\nRUN echo 2 > test.txt\n",
        &[],
    );
    let done = project.run(&hull, &["-t", "broken"]);
    assert_eq!(done.code, 7, "{done:#?}");
    let expected = "The command '/bin/sh -c exit 7' returned a non-zero code: 7";
    assert!(done.stderr.contains(expected), "{}", done.stderr);
    let (_, command) = done.stderr.split_once("hull run --rm -it ").unwrap();
    let id = command.split(' ').next().unwrap();
    assert!(
        done.stdout.contains(&format!(" ---> {id}")),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout
            .contains("Step 3/4 : RUN exit 7\n ---> Running\n")
    );
    assert_eq!(hull.ok(&["run", "--rm", id, "cat", "test.txt"]), "hello");
    hull.fails(&["image", "inspect", "broken"], 1);
    // The steps that were done are not done again.
    let again = project.run(&hull, &[]);
    assert!(
        again
            .stdout
            .contains(&format!(" ---> Using cache\n ---> {id}")),
        "{}",
        again.stdout
    );
}

#[test]
fn every_step_is_an_image_with_a_parent() {
    let hull = Hull::fresh();
    let project = Project::new(
        "FROM busybox\nRUN echo a > /a; rm /bin/vi\nENV X=1\nRUN cat /a; echo $X > /b; ls /bin/vi; true\nCMD [\"cat\", \"/b\"]\n",
        &[],
    );
    let out = project.build(&hull, &["-t", "steps", "-t", "other:tag"]);
    assert!(
        out.contains("Step 4/5 : RUN cat /a; echo $X > /b; ls /bin/vi; true\n ---> Running\na\n"),
        "{out}"
    );
    assert!(out.contains("ls: /bin/vi: No such file"), "{out}");
    assert!(
        out.ends_with("Successfully tagged steps:latest\nSuccessfully tagged other:tag\n"),
        "{out}"
    );
    assert_eq!(hull.ok(&["run", "--rm", "other:tag"]), "1");
    let ids = hull.ok(&["history", "-q", "--no-trunc", "steps"]);
    let ids: Vec<&str> = ids.lines().collect();
    for (child, parent) in ids.iter().zip(&ids[1..]).take(3) {
        assert_eq!(hull.field(child, "{{.Parent}}"), *parent);
    }
    // The image of any step runs.
    assert_eq!(hull.ok(&["run", "--rm", ids[3], "cat", "/a"]), "a");
    let all = hull.ok(&["images", "-a", "-q", "--no-trunc"]);
    let listed = hull.ok(&["images", "-q", "--no-trunc"]);
    for id in &ids[1..4] {
        assert!(
            all.contains(id) && !listed.contains(id),
            "{id} in {all} and {listed}"
        );
    }
    // They go with the last name, and the base stays.
    hull.ok(&["rmi", "other:tag"]);
    let removed = hull.ok(&["rmi", "steps"]);
    assert_eq!(removed.matches("Deleted: ").count(), 4, "{removed}");
    assert_eq!(hull.ok(&["images", "-a", "-q"]).lines().count(), 1);
}

#[test]
fn only_what_changed_is_done_again() {
    let hull = Hull::fresh();
    let dockerfile = "FROM busybox\nARG WHO=world\nRUN echo one > /one\nCOPY src /src\nRUN cat /src/* > /two\nRUN echo $WHO > /who\n";
    let project = Project::new(dockerfile, &[("src/a", "a"), ("src/b", "b")]);
    let first = project.id(&hull, &[]);
    let cached = |arguments: &[&str]| {
        let out = project.build(&hull, arguments);
        out.lines()
            .filter(|line| line.contains("Using cache"))
            .count()
    };
    assert_eq!(cached(&[]), 5);
    // A file's time is nothing; its content and its mode are.
    let file = fs::File::options()
        .append(true)
        .open(project.path().join("src/a"))
        .unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(cached(&[]), 5);
    assert_eq!(project.id(&hull, &[]), first);
    project.write("src/a", "A");
    assert_eq!(cached(&[]), 2);
    project.write("src/a", "a");
    assert_eq!(project.id(&hull, &[]), first);
    fs::set_permissions(
        project.path().join("src/a"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    assert_eq!(cached(&[]), 2);
    // Commands see every argument that stands before them.
    assert_eq!(cached(&["--build-arg", "WHO=moon"]), 1);
    assert_eq!(cached(&["--build-arg", "WHO=moon"]), 5);
    let id = project.id(&hull, &["--build-arg", "WHO=moon", "--no-cache"]);
    assert_eq!(
        hull.ok(&["run", "--rm", &id, "cat", "/two", "/who"]),
        "abmoon"
    );
}

#[test]
fn verify_tells_what_differs() {
    let hull = Hull::shared();
    let same = Project::new("FROM busybox\nRUN echo x > /x\n", &[]);
    same.build(&hull, &["--verify"]);
    let random = Project::new(
        "FROM busybox\nRUN echo x > /x; head -c 8 /dev/urandom > /r\n",
        &[],
    );
    let error = random.fails(&hull, &["--verify"], 1);
    assert!(
        error.contains("/r: content") && !error.contains("/x:"),
        "{error}"
    );
}

#[test]
fn stages_that_nothing_needs_are_not_built() {
    let hull = Hull::shared();
    let dockerfile = "FROM busybox AS base\nWORKDIR /app/\n\
        FROM base AS download\nRUN echo data > file\n\
        FROM base AS broken\nRUN exit 1\n\
        FROM base AS production\nCOPY --from=download /app/ /app/\nCMD [\"cat\", \"file\"]\n\
        FROM base AS shell\nCOPY --from=download /app/ /app/\nCMD [\"sh\"]\n";
    let project = Project::new(dockerfile, &[]);
    let out = project.build(&hull, &["--target", "production", "-t", "stages"]);
    assert!(
        out.contains("Step 7/7 : CMD") && !out.contains("exit 1"),
        "{out}"
    );
    assert_eq!(hull.ok(&["run", "--rm", "stages"]), "data");
    project.fails(&hull, &["--target", "broken"], 1);
    let error = project.fails(&hull, &["--target", "prodution"], 1);
    assert!(error.contains("did you mean production?"), "{error}");
}

#[test]
fn independent_stages_run_at_the_same_time() {
    let hull = Hull::shared();
    // Each waits for the other through a cache that both mount.
    let dockerfile = "FROM busybox AS a\nRUN --mount=type=cache,id=meet,target=/m touch /m/a; until [ -e /m/b ]; do usleep 10000; done; echo a > /a\n\
        FROM busybox AS b\nRUN --mount=type=cache,id=meet,target=/m touch /m/b; until [ -e /m/a ]; do usleep 10000; done; echo b > /b\n\
        FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
    let project = Project::new(dockerfile, &[]);
    let id = project.id(&hull, &[]);
    assert_eq!(hull.ok(&["run", "--rm", &id, "cat", "/a", "/b"]), "a\nb");
}

#[test]
fn foreign_platforms_are_built_too() {
    let hull = Hull::shared();
    let dockerfile = "FROM busybox\nARG TARGETARCH\nRUN uname -m > /arch; echo $TARGETARCH >> /arch\nCMD [\"cat\", \"/arch\"]\n";
    let project = Project::new(dockerfile, &[]);
    project.build(
        &hull,
        &["--platform", "linux/amd64,linux/arm64", "-t", "both"],
    );
    assert_eq!(
        hull.ok(&["run", "--rm", "--platform", "linux/amd64", "both"]),
        "x86_64\namd64"
    );
    assert_eq!(
        hull.ok(&["run", "--rm", "--platform", "linux/arm64", "both"]),
        "aarch64\narm64"
    );
    // One name, one index.
    let name = format!("{}/built/both:{}", registry(), std::process::id());
    for platform in ["linux/amd64", "linux/arm64"] {
        hull.ok(&["tag", "--platform", platform, "both", &name]);
    }
    hull.ok(&["push", "-q", &name]);
    let other = Hull::fresh();
    for (platform, machine) in [("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")] {
        let out = other.ok(&["run", "--rm", "-q", "--platform", platform, &name]);
        assert!(out.starts_with(machine), "{out}");
    }
}

#[test]
fn secrets_reach_the_command_and_nothing_else() {
    let hull = Hull::fresh();
    let secret = "correct-horse-battery-staple";
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN test \"$(cat /run/secrets/token)\" = \"$TOKEN\" && echo ${#TOKEN} > /length\nRUN ls /run/secrets; cat /length\n";
    let project = Project::new(dockerfile, &[("secret.txt", "")]);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), secret).unwrap();
    let argument = format!("id=token,src={}", file.path().display());
    let out = project.build(&hull, &["--secret", &argument]);
    assert!(
        out.contains("\n28\n") && out.contains("ls: /run/secrets"),
        "{out}"
    );
    assert!(!out.contains(secret));
    fn search(path: &std::path::Path, needle: &[u8]) {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                search(&entry.path(), needle);
            } else if kind.is_file() && entry.metadata().unwrap().len() < 1 << 30 {
                let content = fs::read(entry.path()).unwrap();
                let found = content.windows(needle.len()).any(|window| window == needle);
                assert!(!found, "the secret is in {}", entry.path().display());
            }
        }
    }
    search(hull.root(), secret.as_bytes());
    // Without it the command fails, and another secret is no reason to run it again.
    let other = format!(
        "id=token,src={}",
        project.path().join("secret.txt").display()
    );
    assert!(
        project
            .build(&hull, &["--secret", &other])
            .contains("Using cache")
    );
}

#[test]
fn mounts_are_there_for_the_command_only() {
    let hull = Hull::shared();
    let dockerfile = "FROM busybox AS tools\nRUN echo tool > /tool\n\
        FROM busybox\n\
        RUN --mount=type=bind,target=/ctx --mount=from=tools,source=/tool,target=/t/tool --mount=type=tmpfs,target=/scratch \
            cat /ctx/data /t/tool > /seen; echo x > /scratch/x; echo x > /ctx/data || echo read-only\n\
        RUN --mount=type=cache,target=/cache echo $(cat /cache/count 2>/dev/null)x > /cache/count; cat /cache/count\n\
        RUN ls -d /ctx /t /scratch /cache; cat /seen\n";
    let project = Project::new(dockerfile, &[("data", "data\n")]);
    let out = project.build(&hull, &["--no-cache"]);
    assert!(
        out.contains("read-only\n") && out.contains("data\ntool\n"),
        "{out}"
    );
    for path in ["/ctx", "/t", "/scratch", "/cache"] {
        assert!(out.contains(&format!("ls: {path}: No such file")), "{out}");
    }
    let again = project.build(&hull, &["--no-cache"]);
    assert!(again.contains("xx\n"), "{again}");
}

#[test]
fn a_killed_build_keeps_its_finished_steps() {
    let hull = Hull::fresh();
    let project = Project::new(
        "FROM busybox\nRUN echo kept > /kept\nRUN echo waiting; sleep 1000\nRUN echo never\n",
        &[],
    );
    use std::io::{BufRead, BufReader};
    let mut build = hull
        .command(&["build", project.path().to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(build.stdout.take().unwrap()).lines();
    lines
        .find(|line| line.as_ref().unwrap() == "waiting")
        .unwrap()
        .unwrap();
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", build.id())).unwrap();
    let machine: i32 = children
        .split_whitespace()
        .next()
        .unwrap_or("0")
        .parse()
        .unwrap();
    build.kill().unwrap();
    build.wait().unwrap();
    crate::harness::eventually("the machine ends with its build", || !alive(machine));
    project.write(
        "Dockerfile",
        "FROM busybox\nRUN echo kept > /kept\nRUN cat /kept\n",
    );
    let out = project.build(&hull, &[]);
    assert!(
        out.contains("Using cache") && out.contains("\nkept\n"),
        "{out}"
    );
    let left = fs::read_dir(hull.root().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "files of the killed build");
    let members = hull.ok(&[
        "network",
        "inspect",
        "--format",
        "{{json .Containers}}",
        "bridge",
    ]);
    assert_eq!(members, "{}", "addresses of the killed build");
}

#[test]
fn two_builds_at_once_do_a_step_once() {
    let hull = Hull::fresh();
    let project = Project::new("FROM busybox\nRUN head -c 16 /dev/urandom > /r\n", &[]);
    hull.ok(&["pull", "-q", "busybox"]);
    let ids: Vec<String> = thread::scope(|scope| {
        let builds: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| project.id(&hull, &[])))
            .collect();
        builds
            .into_iter()
            .map(|build| build.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let hull = Hull::shared();
    for (dockerfile, expected) in [
        (
            "FROM busybox\nRNU x\n",
            "Dockerfile:2:1: unknown instruction: RNU (did you mean RUN?)\n 2 | RNU x\n   | ^^^",
        ),
        (
            "FROM busybox\nCOPY nothing /x\n",
            "Dockerfile:2:1: nothing: not found in the build context",
        ),
        (
            "FROM busybox\nADD git@example.invalid:x.git /x\n",
            "needs an SSH agent, use --ssh default",
        ),
        (
            "FROM busybox\nCOPY --chown=nobody:nosuchgroup Dockerfile /x\n",
            "unable to find group nosuchgroup",
        ),
        (
            "FROM busybox\nRUN --mount=type=cahce,target=/x true\n",
            "did you mean cache?",
        ),
        ("FROM busybox\nENV A=${B:?missing}\n", "B: missing"),
        ("FROM scratch\n", "No image was generated"),
        (
            "FROM busybox\nCOPY Dockerfile /bin\nCOPY Dockerfile /bin/sh/x\n",
            "not a directory",
        ),
    ] {
        let project = Project::new(dockerfile, &[]);
        let error = project.fails(&hull, &[], 1);
        assert!(error.contains(expected), "{dockerfile}: {error}");
    }
    let project = Project::new("FROM busybox\nRUN [\"/no/such/program\"]\n", &[]);
    let error = project.fails(&hull, &[], 127);
    assert!(error.contains("/no/such/program"), "{error}");
    let error = hull.fails(&["build", "/no/such/directory"], 1);
    assert!(error.contains("not found"), "{error}");
}

#[test]
fn commands_are_on_the_default_network_unless_they_are_not() {
    let hull = Hull::shared();
    let project = Project::new(
        "FROM busybox\nRUN ip -o addr show eth0; grep there /etc/hosts\nRUN --network=none ip link show eth0 || echo none\n",
        &[],
    );
    let out = project.build(&hull, &["--no-cache", "--add-host", "there:10.1.2.3"]);
    assert!(
        out.contains("inet 172.17.0.") && out.contains("10.1.2.3\tthere"),
        "{out}"
    );
    assert!(out.contains("\nnone\n"), "{out}");
    let out = project.run(&hull, &["--no-cache", "--network", "none"]);
    assert!(out.stdout.contains("can't find device 'eth0'"), "{out:#?}");
    let error = project.fails(&hull, &["--network", "host"], 1);
    assert!(error.contains("invalid value 'host'"), "{error}");
}

/// The address of the registry that the tests have.
fn registry() -> String {
    let known = std::env::var("HULL_CONFIG").unwrap_or_else(|_| {
        let path = crate::harness::repository().join("target/demo/config.toml");
        path.display().to_string()
    });
    let text = fs::read_to_string(known).unwrap();
    let (_, rest) = text.split_once("http://").unwrap();
    rest.split(['"', '\'']).next().unwrap().to_owned()
}

#[test]
fn a_cache_is_carried_elsewhere() {
    let (here, there) = (Hull::fresh(), Hull::fresh());
    let project = Project::new(
        "FROM busybox AS one\nRUN head -c 8 /dev/urandom > /r\nFROM busybox\nRUN head -c 8 /dev/urandom > /q\nCOPY --from=one /r /\n",
        &[],
    );
    let cache = tempfile::tempdir().unwrap();
    let place = cache.path().join("c").display().to_string();
    let (to, from) = (
        format!("type=local,dest={place}"),
        format!("type=local,src={place}"),
    );
    let out = project.build(&Hull::shared(), &["--cache-from", &from, "--no-cache"]);
    assert!(out.contains("[Warning] there is no cache in"), "{out}");
    let id = project.id(&here, &["--cache-to", &to]);
    assert_eq!(project.id(&there, &["--cache-from", &from]), id);
    assert_eq!(
        there.field(&id, "{{.Parent}}"),
        here.field(&id, "{{.Parent}}")
    );
    for file in ["oci-layout", "index.json"] {
        assert!(cache.path().join("c").join(file).exists(), "{file}");
    }
    // Through a registry, and only what is needed: a change makes the last step new.
    let name = format!("{}/caches/steps:{}", registry(), std::process::id());
    let out = project.build(&here, &["--cache-from", &name, "--no-cache"]);
    assert!(out.contains("[Warning] there is no cache in"), "{out}");
    project.build(&here, &["--cache-to", &format!("type=registry,ref={name}")]);
    let third = Hull::fresh();
    let out = project.build(
        &third,
        &["--cache-from", &format!("type=registry,ref={name}")],
    );
    assert_eq!(out.matches("Using cache").count(), 2, "{out}");
    assert_eq!(project.id(&third, &[]), project.id(&here, &[]));
    let fourth = Hull::fresh();
    project.build(&fourth, &["--cache-from", &name, "--target", "one"]);
    // The base and one step.
    assert_eq!(fourth.ok(&["images", "-a", "-q"]).lines().count(), 2);
    assert_eq!(
        fourth
            .ok(&["builder", "prune", "-f"])
            .matches("deleted: ")
            .count(),
        1
    );
    // What somebody damaged is not used.
    fs::remove_dir_all(cache.path().join("c/blobs")).unwrap();
    let fifth = Hull::fresh();
    let out = project.build(&fifth, &["--cache-from", &from]);
    assert!(
        out.contains("[Warning] a cached step cannot be had"),
        "{out}"
    );
    let error = project.fails(&here, &["--cache-to", "type=gha"], 1);
    assert!(error.contains("there is no gha"), "{error}");
}
