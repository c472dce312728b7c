//! `COPY` and `ADD`.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use super::Project;
use crate::harness::Hull;

/// What `find` and `cat` say about the image's files below a directory.
fn files(hull: &Hull, image: &str, path: &str) -> String {
    let script = format!(
        "cd {path} && find . | sort | while read f; do echo \"$(stat -c '%A %u:%g %n' \"$f\") $([ -f \"$f\" ] && cat \"$f\")\"; done"
    );
    hull.ok(&[
        "run",
        "--rm",
        "--entrypoint",
        "",
        image,
        "sh",
        "-c",
        &script,
    ])
}

#[test]
fn files_go_where_docker_puts_them() {
    let hull = Hull::shared();
    let dockerfile = "FROM busybox\nWORKDIR /r\n\
        COPY one one\nCOPY one renamed\nCOPY one two dir/\nCOPY tree tree\nCOPY tree/ /r/tree/again\nCOPY t* globbed/\n\
        COPY --chown=7:8 --chmod=600 one owned\nCOPY --chown=nobody one named\nCOPY [\"with space\", \"with space\"]\n\
        COPY --exclude=**/*.o tree excluded/\nCOPY <<EOF heredoc\n$HOME is not $UNSET\nEOF\n\
        COPY <<'EOF' quoted\n$HOME\nEOF\n";
    let project = Project::new(
        dockerfile,
        &[
            ("one", "1"),
            ("two", "2"),
            ("tree/a", "a"),
            ("tree/b/c.o", "c"),
            ("with space", "s"),
        ],
    );
    let id = project.id(&hull, &[]);
    let expected = "\
drwxr-xr-x 0:0 . 
drwxr-xr-x 0:0 ./dir 
-rw-r--r-- 0:0 ./dir/one 1
-rw-r--r-- 0:0 ./dir/two 2
drwxr-xr-x 0:0 ./excluded 
-rw-r--r-- 0:0 ./excluded/a a
drwxr-xr-x 0:0 ./excluded/b 
drwxr-xr-x 0:0 ./globbed 
-rw-r--r-- 0:0 ./globbed/a a
drwxr-xr-x 0:0 ./globbed/b 
-rw-r--r-- 0:0 ./globbed/b/c.o c
-rw-r--r-- 0:0 ./globbed/two 2
-rw-r--r-- 0:0 ./heredoc  is not 
-rw-r--r-- 65534:65534 ./named 1
-rw-r--r-- 0:0 ./one 1
-rw------- 7:8 ./owned 1
-rw-r--r-- 0:0 ./quoted $HOME
-rw-r--r-- 0:0 ./renamed 1
drwxr-xr-x 0:0 ./tree 
-rw-r--r-- 0:0 ./tree/a a
drwxr-xr-x 0:0 ./tree/again 
-rw-r--r-- 0:0 ./tree/again/a a
drwxr-xr-x 0:0 ./tree/again/b 
-rw-r--r-- 0:0 ./tree/again/b/c.o c
drwxr-xr-x 0:0 ./tree/b 
-rw-r--r-- 0:0 ./tree/b/c.o c
-rw-r--r-- 0:0 ./with space s";
    assert_eq!(files(&hull, &id, "/r"), expected);
}

#[test]
fn archives_are_unpacked_by_add_only() {
    let hull = Hull::shared();
    let project = Project::new(
        "FROM busybox\nADD a.tar /plain/\nADD a.tar.gz /gz/\nADD a.tar.xz /xz/\nADD a.tar.bz2 /bz2/\nCOPY a.tar /copied/\nADD text /copied/\n",
        &[("text", "just text"), ("in/f", "from the archive")],
    );
    let root = project.path();
    for (name, flag) in [
        ("a.tar", ""),
        ("a.tar.gz", "z"),
        ("a.tar.xz", "J"),
        ("a.tar.bz2", "j"),
    ] {
        let done = std::process::Command::new("tar")
            .args(["--owner=3", "--group=4", &format!("-c{flag}f")])
            .arg(root.join(name))
            .arg("-C")
            .arg(root.join("in"))
            .arg(".")
            .status();
        assert!(done.unwrap().success());
    }
    let id = project.id(&hull, &[]);
    for directory in ["/plain", "/gz", "/xz", "/bz2"] {
        let found = files(&hull, &id, directory);
        assert!(
            found.ends_with("-rw-r--r-- 3:4 ./f from the archive"),
            "{directory}: {found}"
        );
    }
    assert_eq!(
        hull.ok(&["run", "--rm", &id, "ls", "/copied"]),
        "a.tar\ntext"
    );
}

#[test]
fn ignored_files_are_not_in_the_context() {
    let hull = Hull::shared();
    let project = Project::new(
        "FROM scratch\nCOPY . /\n",
        &[
            (".dockerignore", "*\n!keep\nkeep/not\n"),
            ("keep/yes", "y"),
            ("keep/not", "n"),
            ("other", "o"),
        ],
    );
    let id = project.id(&hull, &[]);
    let exported = hull.ok(&["create", &id, "x"]);
    let listing = hull.run_binary(&["export", &exported]);
    hull.ok(&["rm", &exported]);
    let mut archive = tar_names(&listing);
    archive.retain(|name| name.starts_with("keep") || name.starts_with("other"));
    assert_eq!(archive, ["keep/", "keep/yes"]);
}

fn tar_names(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap();
    entries
        .map(|e| e.unwrap().path().unwrap().display().to_string())
        .collect()
}

#[test]
fn a_hostile_context_reaches_nothing_outside() {
    let hull = Hull::shared();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "outside").unwrap();
    let project = Project::new("FROM busybox\nCOPY link /got/\n", &[("real", "inside")]);
    symlink(outside.path(), project.path().join("link")).unwrap();
    let error = project.fails(&hull, &[], 1);
    assert!(
        error.contains("link: not found in the build context"),
        "{error}"
    );
    // A link that is copied stays a link.
    project.write(
        "Dockerfile",
        "FROM busybox\nCOPY . /got/\nRUN ls -l /got/link; cat /got/link/secret || echo nothing\n",
    );
    let out = project.build(&hull, &["--no-cache"]);
    assert!(out.contains("nothing\n"), "{out}");

    let project = Project::new("FROM busybox\nCOPY . /x\n", &[]);
    nix::unistd::mkfifo(&project.path().join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let error = project.fails(&hull, &[], 1);
    assert!(
        error.contains("pipe of the build context is a device, a pipe or a socket"),
        "{error}"
    );
    project.write(".dockerignore", "pipe\n");
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"not\xffutf8\n");
    File::create(project.path().join(odd)).unwrap();
    File::create(project.path().join("n".repeat(255))).unwrap();
    project.id(&hull, &[]);
    // Links of the image do not lead a copy out of it.
    let project = Project::new(
        "FROM busybox\nRUN ln -s /../../../tmp /out\nCOPY f /out/f\nRUN cat /tmp/f\n",
        &[("f", "in the image\n")],
    );
    assert!(
        project
            .build(&hull, &["--no-cache"])
            .contains("in the image\n")
    );
}

#[test]
fn contexts_come_over_the_standard_input() {
    let hull = Hull::shared();
    let done = hull.feed(
        &["build", "--no-cache", "-"],
        b"FROM busybox\nRUN echo from input\n",
    );
    assert_eq!(done.code, 0, "{done:#?}");
    assert!(done.stdout.contains("from input"), "{done:#?}");
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("Dockerfile", "FROM busybox\nCOPY d /d\nRUN cat /d/f\n"),
        ("d/f", "in the archive\n"),
        (".dockerignore", "d/g\n"),
        ("d/g", "ignored\n"),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    let done = hull.feed(
        &["build", "--no-cache", "-"],
        &builder.into_inner().unwrap(),
    );
    assert_eq!(done.code, 0, "{done:#?}");
    assert!(done.stdout.contains("in the archive"), "{done:#?}");
    let project = Project::new("FROM nothing\n", &[("f", "beside\n")]);
    let path = project.path().to_str().unwrap();
    let done = hull.feed(
        &["build", "--no-cache", "-f", "-", path],
        b"FROM busybox\nCOPY f /f\nRUN cat /f\n",
    );
    assert!(
        done.code == 0 && done.stdout.contains("beside"),
        "{done:#?}"
    );
}
