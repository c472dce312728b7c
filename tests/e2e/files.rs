//! `cp`, `diff`, `commit`: the files of containers that run, have run, or never ran.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::harness::{Done, Hull};

/// A container that has ended and left some files.
fn exited(hull: &Hull, script: &str) -> String {
    let id = hull.ok(&["create", "busybox", "sh", "-c", script]);
    hull.ok(&["start", "-a", &id]);
    id
}

#[test]
fn files_come_out_of_an_exited_container_as_the_workshop_has_it() {
    let hull = Hull::shared();
    let id = exited(&hull, "echo hello > test.txt");
    let dir = tempfile::tempdir().unwrap();
    let done = in_directory(&hull, dir.path(), &["cp", &format!("{id}:/test.txt"), "./"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""));
    assert!(done.stderr.starts_with("Successfully copied"), "{done:?}");
    assert_eq!(fs::read(dir.path().join("test.txt")).unwrap(), b"hello\n");
    hull.ok(&["rm", &id]);
}

#[test]
fn files_go_both_ways_whatever_the_container_does() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::create_dir_all(dir.path().join("tree/sub")).unwrap();
    fs::write(dir.path().join("tree/sub/file"), "from the host").unwrap();
    fs::write(dir.path().join("tree/program"), "").unwrap();
    let mode = fs::Permissions::from_mode(0o751);
    fs::set_permissions(dir.path().join("tree/program"), mode).unwrap();

    let running = hull.background(&["busybox", "sleep", "1000"]);
    let never = hull.ok(&["create", "busybox", "true"]);
    let ended = exited(&hull, "true");
    for id in [&running.id, &never, &ended] {
        hull.ok(&["cp", "-q", &path("tree"), &format!("{id}:/etc")]);
        hull.ok(&["cp", "-q", &path("tree"), &format!("{id}:/renamed")]);
        hull.ok(&["cp", "-q", &path("tree/."), &format!("{id}:/renamed")]);
        let back = path("back");
        hull.ok(&["cp", "-q", &format!("{id}:/etc/tree"), &back]);
        let file = dir.path().join("back/sub/file");
        assert_eq!(fs::read(file).unwrap(), b"from the host");
        let program = fs::metadata(dir.path().join("back/program")).unwrap();
        assert_eq!(program.mode() & 0o7777, 0o751);
        fs::remove_dir_all(dir.path().join("back")).unwrap();
        let archive = hull.run_binary(&["cp", &format!("{id}:/renamed"), "-"]);
        assert_eq!(
            names(&archive),
            [
                "renamed/",
                "renamed/program",
                "renamed/sub/",
                "renamed/sub/file"
            ]
        );
        let done = hull.feed(&["cp", "-", &format!("{id}:/bin")], &archive);
        assert_eq!(done.code, 0, "{done:?}");
        hull.ok(&[
            "cp",
            "-q",
            &format!("{id}:/bin/renamed/sub/file"),
            &path("one"),
        ]);
        assert_eq!(fs::read(dir.path().join("one")).unwrap(), b"from the host");
    }
    // What was copied in is what the container sees, and it is root's.
    let seen = hull.ok(&[
        "exec",
        &running.id,
        "stat",
        "-c",
        "%u:%g %a",
        "/etc/tree/program",
    ]);
    assert_eq!(seen, "0:0 751");
    for id in [never, ended] {
        hull.ok(&["rm", &id]);
    }
}

#[test]
fn copies_follow_dockers_rules_and_messages() {
    let hull = Hull::shared();
    let id = exited(
        &hull,
        "ln -s /etc/passwd link; mkdir -p d/e; echo x > d/e/f",
    );
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().display().to_string();
    let from = |path: &str| format!("{id}:{path}");
    hull.ok(&["cp", "-q", &from("/link"), &target]);
    assert!(dir.path().join("link").is_symlink());
    hull.ok(&["cp", "-qL", &from("/link"), &format!("{target}/followed")]);
    assert!(dir.path().join("followed").metadata().unwrap().is_file());
    let message = |source: &str, target: &str| hull.fails(&["cp", source, target], 1);
    let error = message(&from("/nowhere"), &target);
    assert!(
        error.contains("Could not find the file /nowhere in container"),
        "{error}"
    );
    let error = message(&from("/d"), &format!("{target}/followed"));
    assert!(error.contains("cannot copy directory"), "{error}");
    let error = message(&from("/link"), &format!("{target}/missing/"));
    assert!(error.contains("no such directory"), "{error}");
    let error = message(&format!("{target}/followed"), &from("/not/there"));
    assert!(
        error.contains("Could not find the file /not in container"),
        "{error}"
    );
    let error = message(&from("/d"), &from("/d"));
    assert!(
        error.contains("between containers is not supported"),
        "{error}"
    );
    let error = message(&target, &target);
    assert!(error.contains("at least one container source"), "{error}");
    hull.ok(&["rm", &id]);
}

#[test]
fn a_hostile_container_reaches_nothing_beside_the_target() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("target")).unwrap();
    fs::write(dir.path().join("secret"), "mine").unwrap();
    // A link to where the target's neighbour is, and a file of the neighbour's name below it.
    let id = exited(
        &hull,
        "mkdir -p a/out; ln -s ../.. a/up; echo theirs > a/out/secret; chmod 6755 a/out/secret",
    );
    symlink("../..", dir.path().join("target/out")).unwrap();
    let target = dir.path().join("target").display().to_string();
    let done = hull.run(&["cp", "-q", &format!("{id}:/a/."), &target]);
    assert_ne!(done.code, 0, "a link in the way is no directory");
    assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"mine");
    fs::remove_file(dir.path().join("target/out")).unwrap();
    hull.ok(&["cp", "-q", &format!("{id}:/a/."), &target]);
    let copied = fs::metadata(dir.path().join("target/out/secret")).unwrap();
    assert_eq!(copied.mode() & 0o7777, 0o755, "set-id bits need -a");
    // A destination behind a link of the container's stays in the container.
    let link = exited(&hull, "ln -s /../../../../../../tmp/. evil");
    hull.ok(&[
        "cp",
        "-q",
        &format!("{target}/out/secret"),
        &format!("{link}:/evil/x"),
    ]);
    let found = hull.ok(&["diff", &link]);
    assert!(found.lines().any(|line| line == "A /tmp/x"), "{found}");
    for id in [id, link] {
        hull.ok(&["rm", &id]);
    }
}

#[test]
fn copies_reach_shared_directories() {
    let hull = Hull::shared();
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("file"), "shared").unwrap();
    let volume = format!("{}:/mnt/deep", shared.path().display());
    let id = hull.ok(&["create", "-v", &volume, "busybox", "true"]);
    let archive = hull.run_binary(&["cp", &format!("{id}:/mnt/deep/file"), "-"]);
    assert_eq!(names(&archive), ["file"]);
    hull.feed(
        &["cp", "-", &format!("{id}:/mnt/deep/")],
        &archive_of("new", b"in"),
    );
    assert_eq!(fs::read(shared.path().join("new")).unwrap(), b"in");
    hull.ok(&["rm", &id]);
}

#[test]
fn changes_are_listed_and_committed() {
    let hull = Hull::shared();
    let script = "echo new > /added; rm /etc/passwd; echo 127.1.1.1 x >> /etc/group; \
        rm -rf /var; mkdir /var; echo kept > /var/only";
    let id = exited(&hull, script);
    let expected = "A /added\nC /etc\nC /etc/group\nD /etc/passwd\nC /var\nA /var/only";
    assert_eq!(hull.ok(&["diff", &id]), expected);
    let image = hull.ok(&[
        "commit",
        "-a",
        "Ann",
        "-m",
        "a message",
        "-c",
        r#"CMD ["sh","-c","ls /var; cat /added"]"#,
        &id,
        "files-committed:1",
    ]);
    hull.ok(&["rm", &id]);
    assert_eq!(hull.ok(&["run", "--rm", "files-committed:1"]), "only\nnew");
    hull.fails(
        &["run", "--rm", "files-committed:1", "cat", "/etc/passwd"],
        1,
    );
    let about = hull.field(
        "files-committed:1",
        "{{.Id}} {{.Author}} {{len .RootFS.Layers}}",
    );
    assert_eq!(about, format!("{image} Ann 2"));
    let history = hull.ok(&["history", "--format", "{{.Comment}}", "files-committed:1"]);
    assert_eq!(history.lines().next(), Some("a message"));
    hull.ok(&["rmi", "files-committed:1"]);

    // A container that runs, too: its processes stand still meanwhile and then go on.
    let running = hull.background(&["busybox", "sh", "-c", "echo up > /state; exec sleep 1000"]);
    hull.ok(&[
        "exec",
        &running.id,
        "sh",
        "-c",
        "until [ -s /state ]; do :; done",
    ]);
    let image = hull.ok(&["commit", &running.id]);
    assert_eq!(hull.ok(&["run", "--rm", &image, "cat", "/state"]), "up");
    assert_eq!(hull.ok(&["exec", &running.id, "cat", "/state"]), "up");
    hull.ok(&["rmi", &image]);
}

fn in_directory(hull: &Hull, directory: &std::path::Path, arguments: &[&str]) -> Done {
    let output = hull
        .command(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    Done {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect()
}

fn archive_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

/// What is thrown away need not reach a disk.
#[test]
fn only_what_is_kept_is_synced() {
    let hull = Hull::shared();
    let root = ["busybox", "grep", "^overlay / ", "/proc/mounts"];
    let thrown_away = hull.ok(&[&["run", "--rm"], &root[..]].concat());
    assert!(thrown_away.contains("fsync=volatile"), "{thrown_away}");
    let kept = hull.background(&root);
    hull.ok(&["wait", &kept.id]);
    let options = hull.ok(&["logs", &kept.id]);
    assert!(
        options.contains("upperdir=") && !options.contains("volatile"),
        "{options}"
    );
}
