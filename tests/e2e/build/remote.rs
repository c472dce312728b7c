//! What comes from elsewhere: git repositories, archives, Dockerfiles.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Project;
use crate::harness::Hull;

/// Serves every connection until the test's process ends; returns the address.
fn serve(answer: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap());
        }
    });
    address
}

/// The repositories in a directory, with git's own protocol.
fn serve_git(root: PathBuf) -> String {
    let answer = move |stream: TcpStream| {
        let end = || Stdio::from(OwnedFd::from(stream.try_clone().unwrap()));
        Command::new("git")
            .args(["daemon", "--inetd", "--export-all"])
            .arg(format!("--base-path={}", root.display()))
            .arg(&root)
            .stdin(end())
            .stdout(end())
            .status()
            .unwrap();
    };
    format!("git://{}", serve(answer))
}

/// The files in a directory, over HTTP.
fn serve_files(root: PathBuf) -> String {
    let answer = move |mut stream: TcpStream| {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let path = first.split(' ').nth(1).unwrap();
        let path = path
            .split('?')
            .next()
            .unwrap()
            .trim_start_matches('/')
            .to_owned();
        lines.find(|line| line.as_ref().unwrap().is_empty());
        let (status, content) = match fs::read(root.join(path)) {
            Ok(content) => ("200 OK", content),
            Err(_) => ("404 Not Found", Vec::new()),
        };
        let length = content.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        // Who has seen enough hangs up.
        let _ = stream.write_all(&[head.as_bytes(), &content].concat());
    };
    format!("http://{}", serve(answer))
}

/// Runs git with an author and times of its own.
#[track_caller]
fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@y",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_DATE", "2020-01-01T00:00:00Z")
        .env("GIT_COMMITTER_DATE", "2020-01-01T00:00:00Z")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Two repositories: `main` with two commits, a tag, links and attributes that would change what
/// is checked out, and `part`, which is also in `main`.
fn repositories() -> (tempfile::TempDir, String) {
    let place = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let path = place.path().join(name);
        fs::create_dir(&path).unwrap();
        git(&path, &["init", "-q", "-b", "trunk"]);
        path
    };
    let part = make("part");
    fs::write(part.join("p"), "part\n").unwrap();
    git(&part, &["add", "."]);
    git(&part, &["commit", "-qm", "part"]);
    let main = make("main");
    fs::create_dir_all(main.join("sub/deep")).unwrap();
    fs::write(main.join("sub/deep/f"), "one\n").unwrap();
    fs::write(
        main.join("Dockerfile"),
        "FROM busybox\nCOPY . /c\nRUN find /c -type f | sort; cat /c/sub/deep/f\n",
    )
    .unwrap();
    fs::write(main.join(".dockerignore"), "Dockerfile\n.git*\n").unwrap();
    fs::write(
        main.join(".gitattributes"),
        "* text eol=crlf export-subst filter=evil\nrun export-ignore\n",
    )
    .unwrap();
    fs::write(main.join("run"), "#!/bin/sh\necho $Format:%H$\n").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", main.join("link")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(main.join("run"), mode).unwrap();
    let url = place.path().join("part").display().to_string();
    git(&main, &["submodule", "--quiet", "add", &url, "sub/part"]);
    git(
        &main,
        &[
            "config",
            "-f",
            ".gitmodules",
            "submodule.sub/part.url",
            "../part",
        ],
    );
    git(&main, &["add", "."]);
    git(&main, &["commit", "-qm", "one"]);
    git(&main, &["tag", "v1"]);
    let first = git(&main, &["rev-parse", "HEAD"]);
    fs::write(main.join("sub/deep/f"), "two\n").unwrap();
    git(&main, &["commit", "-qam", "two"]);
    for name in ["main", "part"] {
        git(&place.path().join(name), &["update-server-info"]);
    }
    (place, first)
}

#[test]
fn repositories_are_added_as_they_were_committed() {
    let hull = Hull::shared();
    let (place, first) = repositories();
    let server = serve_git(place.path().to_owned());
    let dockerfile = format!(
        "FROM busybox\nADD {server}/main /new\nADD {server}/main#v1:sub /old/\nADD --chown=5:6 {server}/main#{first} /sha\n\
         RUN cd /new; find . | sort; cat sub/deep/f /old/deep/f /old/part/p /sha/sub/deep/f; cat run; readlink link; stat -c '%a %u %g' run /sha/run; wc -c < sub/part/p; ls -d .git || true\n"
    );
    // A path that is no .git needs a scheme that only repositories have.
    let project = Project::new(&dockerfile, &[]);
    let out = project.build(&hull, &["--no-cache"]);
    let files = ".\n./.dockerignore\n./.gitattributes\n./.gitmodules\n./Dockerfile\n./link\n./run\n./sub\n./sub/deep\n./sub/deep/f\n./sub/part\n./sub/part/p\n";
    assert!(out.contains(files), "{out}");
    assert!(
        out.contains(
            "\ntwo\none\npart\none\n#!/bin/sh\necho $Format:%H$\n/etc/passwd\n755 0 0\n755 5 6\n5\n"
        ),
        "{out}"
    );
    assert!(out.contains("ls: .git: No such file"), "{out}");
    // The same commit is the same layer.
    assert_eq!(
        project.id(&hull, &["--no-cache"]),
        project.id(&Hull::fresh(), &[])
    );
}

#[test]
fn a_commit_can_be_demanded_and_the_history_kept() {
    let hull = Hull::shared();
    let (place, first) = repositories();
    let server = serve_git(place.path().to_owned());
    let dockerfile = |checksum: &str| {
        format!(
            "FROM busybox\nADD --checksum={checksum} --keep-git-dir=true {server}/main#v1 /r\nRUN cat /r/.git/HEAD; ls /r/.git\n"
        )
    };
    let project = Project::new(&dockerfile(&first), &[]);
    let out = project.build(&hull, &["--no-cache"]);
    assert!(out.contains(&format!("\n{first}\n")), "{out}");
    let id = project.id(&hull, &["--no-cache"]);
    assert_eq!(project.id(&Hull::fresh(), &[]), id);
    // It is a repository that git can use.
    let target = tempfile::tempdir().unwrap();
    let container = hull.ok(&["create", &id, "true"]);
    let to = target.path().to_str().unwrap();
    hull.ok(&["cp", &format!("{container}:/r"), to]);
    hull.ok(&["rm", &container]);
    let repository = target.path().join("r");
    assert_eq!(git(&repository, &["rev-parse", "HEAD"]), first);
    assert_eq!(git(&repository, &["fsck", "--strict"]), "");
    assert_eq!(
        git(&repository, &["cat-file", "-p", "HEAD:sub/deep/f"]),
        "one"
    );
    let wrong = Project::new(&dockerfile("0123456789"), &[]);
    let error = wrong.fails(&hull, &[], 1);
    assert!(error.contains(&format!("its commit is {first}")), "{error}");
}

#[test]
fn servers_that_cannot_give_a_part_give_all() {
    let hull = Hull::shared();
    let (place, first) = repositories();
    fs::rename(
        place.path().join("main/.git"),
        place.path().join("main.git"),
    )
    .unwrap();
    fs::create_dir(place.path().join("part.git")).unwrap();
    fs::rename(place.path().join("part/.git"), place.path().join("old")).unwrap();
    let server = serve_files(place.path().to_owned());
    let short = &first[..10];
    let project = Project::new(
        &format!(
            "FROM busybox\nADD {server}/main.git#v1:sub/deep /a\nADD {server}/main.git#{short}:sub/deep /b\nADD {server}/main.git#:sub/deep /c\nRUN cat /a/f /b/f /c/f\n"
        ),
        &[],
    );
    let out = project.build(&hull, &["--no-cache"]);
    assert!(out.contains("\none\none\ntwo\n"), "{out}");
    for (source, expected) in [
        ("main.git#nothing", "cannot fetch"),
        ("main.git#v1:nowhere", "there is no directory nowhere in it"),
        ("missing.git", "cannot fetch"),
        ("main.git#--upload-pack=/bin/sh", "no branch, tag or commit"),
    ] {
        let project = Project::new(&format!("FROM busybox\nADD {server}/{source} /x\n"), &[]);
        let error = project.fails(&hull, &[], 1);
        assert!(error.contains(expected), "{source}: {error}");
    }
}

#[test]
fn a_host_without_git_says_what_to_install() {
    let hull = Hull::shared();
    let project = Project::new("FROM busybox\nADD git://127.0.0.1:1/x /x\n", &[]);
    let path = project.path().to_str().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let mut command = hull.command(&["build", path]);
    let output = command.env("PATH", empty.path()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("git is not there: install it"), "{error}");
}

#[test]
fn contexts_come_from_repositories_archives_and_addresses() {
    let hull = Hull::shared();
    let (place, _) = repositories();
    let server = serve_git(place.path().to_owned());
    let context = format!("{server}/main#v1");
    let out = hull.ok(&["build", "--no-cache", &context]);
    let files = "/c/link\n";
    assert!(!out.contains(files), "a link is no file: {out}");
    assert!(
        out.contains("\n/c/run\n/c/sub/deep/f\n/c/sub/part/p\none\n"),
        "{out}"
    );
    let files = place.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("plain"), "FROM busybox\nRUN echo plain; ls /c\n").unwrap();
    for (name, flag) in [("a.tar", "-cf"), ("a.tar.gz", "-czf"), ("a.tar.xz", "-cJf")] {
        let archive = files.join(name);
        let tar = Command::new("tar")
            .arg(flag)
            .arg(&archive)
            .args(["--exclude=.git", "."])
            .current_dir(place.path().join("main"))
            .status();
        assert!(tar.unwrap().success());
        let done = hull.feed(&["build", "--no-cache", "-"], &fs::read(&archive).unwrap());
        assert!(
            done.stdout.contains("\n/c/run\n/c/sub/deep/f\n"),
            "{name}: {done:#?}"
        );
    }
    let web = serve_files(files);
    let out = hull.ok(&["build", "--no-cache", &format!("{web}/a.tar.gz")]);
    assert!(out.contains("\n/c/run\n/c/sub/deep/f\n"), "{out}");
    let error = hull.fails(&["build", &format!("{web}/plain")], 1);
    assert!(error.contains("returned a non-zero code"), "{error}");
    let error = hull.fails(&["build", &format!("{web}/none.tar")], 1);
    assert!(error.contains("404"), "{error}");
    // The Dockerfile can come from elsewhere than the files.
    let done = hull.feed(
        &["build", "--no-cache", "-f", "-", &context],
        b"FROM busybox\nCOPY run /run\nRUN echo other; cat /run\n",
    );
    assert!(done.stdout.contains("\nother\n#!/bin/sh\n"), "{done:#?}");
    let error = hull
        .feed(&["build", "-f", "-", "-"], b"FROM busybox\n")
        .stderr;
    assert!(error.contains("at once"), "{error}");
}
