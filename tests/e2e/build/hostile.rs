//! Dockerfiles and contexts of somebody who means harm: each gives an image or one sentence.

use std::fs;
use std::os::unix::fs::symlink;

use super::Project;
use crate::harness::Hull;

#[test]
fn bombs_of_text_are_refused_or_built() {
    let hull = Hull::shared();
    let fails = |dockerfile: String, expected: &str| {
        let project = Project::new(&dockerfile, &[]);
        let error = project.fails(&hull, &[], 1);
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.len() < 4000, "{} bytes", error.len());
    };
    fails("#".repeat(17 << 20), "too long, the limit is 16 MiB");
    fails(
        format!("FROM busybox\n{}", "RUN true\n".repeat(1_000_000)),
        "more than 10000 instructions",
    );
    fails(
        format!("FROM busybox\nRUN <<EOF {}\nEOF\n", "<<E ".repeat(10_000)),
        "has no end",
    );
    fails(format!("FROM busybox\nRUN {}", "$(".repeat(3 << 20)), "");
    // Each variable is ten times as long as the one before it.
    let grow = |instruction: &str| {
        let mut text = format!("FROM busybox\n{instruction} A0=0123456789\n");
        for number in 1..12 {
            let ten = format!("${{A{}}}", number - 1).repeat(10);
            text += &format!("{instruction} A{number}={ten}\n");
        }
        text
    };
    fails(grow("ARG"), "too long");
    fails(grow("ENV"), "too long");
    fails(
        format!("FROM busybox\nENV A={}\n", "${B:-".repeat(100_000)),
        "in each other",
    );
    fails(
        format!(
            "FROM busybox\nARG A={}\nENV B=${{A//*a*b/x}}\n",
            "a".repeat(100_000)
        ),
        "too long for a pattern",
    );
    let labels: String = (0..5)
        .map(|number| format!("LABEL a{number}=$A\n"))
        .collect();
    let long = "x".repeat(1 << 20);
    fails(
        format!("FROM busybox\nENV A={long}\n{labels}"),
        "has become too long",
    );
    // What is merely long is built.
    let lines = format!(
        "FROM busybox\n{}RUN echo \\\n{}  end\n",
        "# a comment\n".repeat(300_000),
        "  a \\\n".repeat(20_000),
    );
    let out = Project::new(&lines, &[]).build(&hull, &["-q"]);
    assert!(out.starts_with("sha256:"), "{out}");
}

#[test]
fn many_stages_are_built() {
    let hull = Hull::shared();
    let mut dockerfile = String::new();
    for number in 0..400 {
        dockerfile += &format!("FROM scratch AS s{number}\nCOPY f /f{number}\n");
    }
    dockerfile += "FROM busybox\n";
    for number in 0..100 {
        dockerfile += &format!("COPY --from=s{number} /f{number} /\n");
    }
    dockerfile += "COPY --from=s399 /f399 /\n";
    let project = Project::new(&dockerfile, &[("f", "x")]);
    let id = project.id(&hull, &[]);
    assert_eq!(hull.ok(&["run", "--rm", &id, "cat", "/f0", "/f399"]), "xx");
}

#[test]
fn odd_trees_are_copied() {
    let hull = Hull::shared();
    let project = Project::new(
        "FROM busybox\nCOPY deep /deep\nCOPY **/**/**/x **/d/**/d/**/x /found/\n",
        &[],
    );
    let mut path = project.path().join("deep");
    for _ in 0..500 {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("x"), "deep").unwrap();
    project.write(
        ".dockerignore",
        &format!("{}b\n!**/x\n", "**/d/".repeat(50)),
    );
    let id = project.id(&hull, &[]);
    assert_eq!(hull.ok(&["run", "--rm", &id, "cat", "/found/x"]), "deep");
    // As deep as paths can be.
    for _ in 0..1400 {
        path.push("d");
    }
    fs::create_dir_all(&path).unwrap();
    let error = project.fails(&hull, &[], 1);
    assert!(error.contains("directories are too deep"), "{error}");
}

#[test]
fn no_file_of_the_host_becomes_a_dockerfile_or_rules() {
    let hull = Hull::shared();
    let project = Project::new("FROM busybox\nCOPY . /c\n", &[]);
    symlink("/dev/zero", project.path().join(".dockerignore")).unwrap();
    // It leads to nothing inside of the context.
    project.id(&hull, &[]);
    fs::remove_file(project.path().join(".dockerignore")).unwrap();
    fs::write(project.path().join(".dockerignore"), "x\n".repeat(600_000)).unwrap();
    let error = project.fails(&hull, &[], 1);
    assert!(error.contains("the limit is 1 MiB"), "{error}");
    fs::remove_file(project.path().join(".dockerignore")).unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), "secret line\n").unwrap();
    fs::remove_file(project.path().join("Dockerfile")).unwrap();
    symlink(outside.path(), project.path().join("Dockerfile")).unwrap();
    let error = project.fails(&hull, &[], 1);
    assert!(error.contains("there is no Dockerfile"), "{error}");
    // One that leads to another file of the context is followed.
    fs::remove_file(project.path().join("Dockerfile")).unwrap();
    project.write("real", "FROM busybox\nRUN echo followed\n");
    symlink("real", project.path().join("Dockerfile")).unwrap();
    assert!(project.build(&hull, &["--no-cache"]).contains("followed"));
    fs::remove_file(project.path().join("Dockerfile")).unwrap();
    let pipe = project.path().join("Dockerfile");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let error = project.fails(&hull, &[], 1);
    assert!(error.contains("is a device, a pipe or a socket"), "{error}");
}

/// An archive of entries: name, kind, and what it leads to or holds.
fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let link = matches!(kind, tar::EntryType::Link | tar::EntryType::Symlink);
        let data = if link { "" } else { content };
        header.set_size(data.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(5).unwrap();
        if link {
            header.set_link_name_literal(content).unwrap();
        }
        if name.len() < 100 {
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, data.as_bytes()).unwrap();
        } else {
            builder
                .append_data(&mut header, name, data.as_bytes())
                .unwrap();
        }
    }
    builder.into_inner().unwrap()
}

#[test]
fn archives_lead_nowhere() {
    use tar::EntryType::{Char, Link, Regular, Symlink};
    let hull = Hull::shared();
    let dockerfile = (
        "Dockerfile",
        Regular,
        "FROM busybox\nCOPY . /c\nRUN cat /c/*; ls /c\n",
    );
    let feed = |entries: &[(&str, tar::EntryType, &str)]| {
        let bytes = archive(&[&[dockerfile], entries].concat());
        hull.feed(&["build", "--no-cache", "-"], &bytes)
    };
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), "outside").unwrap();
    let there = outside.path().to_str().unwrap();
    for (entries, expected) in [
        (&[("../x", Regular, "1")][..], "leads out"),
        (&[("a/../../x", Regular, "1")], "leads out"),
        (&[("hard", Link, "../../etc/passwd")], ""),
        (&[("hard", Link, there)], ""),
        (
            &[
                ("s", Symlink, "/"),
                ("s/x/y", Regular, "1"),
                ("hard", Link, "s/etc/passwd"),
            ],
            "",
        ),
        (&[("device", Char, "")], "is a device, a pipe or a socket"),
        (&[(&"d/".repeat(5000), Regular, "")], "too long"),
    ] {
        let done = feed(entries);
        assert!(
            !done.stdout.contains("outside") && !done.stdout.contains("root:"),
            "{done:#?}"
        );
        assert!(!done.stderr.contains("panicked"), "{done:#?}");
        assert!(
            done.code == 0 || done.stderr.contains(expected),
            "{entries:?}: {done:#?}"
        );
        assert!(
            expected.is_empty() || done.code == 1,
            "{entries:?}: {done:#?}"
        );
    }
    // An absolute name is one inside.
    let done = feed(&[("/etc/inside", Regular, "inside")]);
    assert_eq!(done.code, 0, "{done:#?}");
    assert!(done.stdout.contains("etc\n"), "{done:#?}");
}
