//! Images, builds, volumes and networks through docker's command line.

use super::{Container, Server};
use crate::harness::Hull;

#[test]
fn images_are_pulled_listed_and_removed() {
    let hull = Hull::fresh();
    let server = Server::new(&hull);
    // A container whose image is missing pulls it first.
    let done = server.run(&["run", "--rm", "busybox", "echo", "hello"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "hello\n"),
        "{done:#?}"
    );
    assert!(
        done.stderr
            .contains("Unable to find image 'busybox:latest' locally")
    );
    assert!(done.stderr.contains("Pull complete"), "{done:#?}");
    let missing = server.fails(&["pull", "no-such-image"], 1);
    assert!(missing.contains("not found"), "{missing}");
    for command in [
        &[
            "images",
            "--format",
            "{{.Repository}} {{.Tag}} {{.ID}} {{.Size}}",
        ][..],
        &["images", "-q", "-f", "dangling=true"],
        &["history", "--format", "{{.CreatedBy}} {{.Size}}", "busybox"],
        &[
            "image",
            "inspect",
            "-f",
            "{{.Id}} {{.RepoTags}} {{json .Config.Cmd}}",
            "busybox",
        ],
    ] {
        assert_eq!(server.ok(command), hull.ok(command), "{command:?}");
    }
    server.ok(&["tag", "busybox", "other/name:1"]);
    assert_eq!(
        server.ok(&["rmi", "other/name:1"]),
        "Untagged: other/name:1"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.tar").display().to_string();
    server.ok(&["save", "-o", &path, "busybox"]);
    let id = server.ok(&["images", "-q", "--no-trunc", "busybox"]);
    let removed = server.ok(&["rmi", "busybox"]);
    assert!(removed.contains(&format!("Deleted: {id}")), "{removed}");
    assert_eq!(
        server.ok(&["load", "-i", &path]),
        "Loaded image: busybox:latest"
    );
    assert_eq!(server.ok(&["images", "-q", "--no-trunc"]), id);
    server.ok(&["create", "--name", "made", "busybox"]);
    let in_use = server.fails(&["rmi", "busybox"], 1);
    assert!(in_use.contains("is using"), "{in_use}");
    server.ok(&["commit", "-m", "why", "made", "committed:1"]);
    let archive = server.command(&["export", "made"]).output().unwrap().stdout;
    let imported = server.feed(
        &["import", "-c", "CMD echo imported", "-", "imported:1"],
        &archive,
    );
    assert!(imported.stdout.starts_with("sha256:"), "{imported:#?}");
    assert_eq!(server.ok(&["run", "--rm", "imported:1"]), "imported");
    assert!(server.ok(&["system", "df"]).contains("Images"));
    let pruned = server.ok(&["system", "prune", "-af"]);
    assert!(pruned.contains("deleted: sha256:"), "{pruned}");
    assert_eq!(server.ok(&["images", "-q"]), "");
    let search = server.fails(&["search", "x"], 1);
    assert!(search.contains("not there in hull"), "{search}");
}

#[test]
fn builds_tell_what_dockers_do() {
    // At the end it prunes what others would miss.
    let hull = Hull::fresh();
    let server = Server::new(&hull);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("file", "content\n");
    write("left-out", "secret\n");
    write(".dockerignore", "left-out\n");
    write(
        "Dockerfile",
        "FROM busybox AS base\nARG A=1\nRUN echo built $A\nFROM base\nCOPY . /c/\nLABEL x=y\nCMD ls /c\n",
    );
    let build = ["build", "-t", "serve-built:1", "--build-arg", "A=7", &path];
    let first = server.run(&build);
    assert_eq!(first.code, 0, "{first:#?}");
    for line in [
        "Step 1/7 : FROM busybox AS base",
        "built 7",
        "Successfully tagged serve-built:1",
    ] {
        assert!(first.stdout.contains(line), "{line}: {first:#?}");
    }
    let again = server.ok(&build);
    assert!(again.contains(" ---> Using cache"), "{again}");
    assert_eq!(
        server.ok(&["run", "--rm", "serve-built:1"]),
        "Dockerfile\nfile"
    );
    assert_eq!(
        server.ok(&["inspect", "-f", "{{.Config.Labels.x}}", "serve-built:1"]),
        "y"
    );
    let quiet = server.ok(&["build", "-q", &path]);
    assert!(quiet.starts_with("sha256:"), "{quiet}");
    write("Dockerfile", "FROM busybox\nRUN exit 3\n");
    let failed = server.fails(&["build", &path], 3);
    assert!(failed.contains("returned a non-zero code: 3"), "{failed}");
    write("Dockerfile", "NONSENSE\n");
    let refused = server.fails(&["build", &path], 1);
    assert!(refused.contains("NONSENSE"), "{refused}");
    let missing = server.fails(&["build", "--target", "nowhere", &path], 1);
    assert!(!missing.is_empty());
    server.ok(&["builder", "prune", "-f"]);
}

#[test]
fn volumes_keep_their_data() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let name = "serve-volume";
    let _ = hull.run(&["volume", "rm", "-f", name]);
    assert_eq!(
        server.ok(&["volume", "create", "--label", "a=b", name]),
        name
    );
    let bind = "serve-volume:/data";
    server.ok(&[
        "run",
        "--rm",
        "-v",
        bind,
        "busybox",
        "sh",
        "-c",
        "echo kept > /data/x",
    ]);
    let mount = "type=volume,source=serve-volume,target=/data,readonly";
    let read = server.ok(&[
        "run",
        "--rm",
        "--mount",
        mount,
        "busybox",
        "sh",
        "-c",
        "cat /data/x; touch /data/y || true",
    ]);
    assert_eq!(read, "kept");
    assert_eq!(server.ok(&["volume", "ls", "-q", "-f", "label=a=b"]), name);
    assert_eq!(
        server.ok(&["volume", "inspect", "-f", "{{.Driver}} {{.Labels.a}}", name]),
        "local b"
    );
    server.ok(&["volume", "rm", name]);
    let missing = server.fails(&["volume", "inspect", name], 1);
    assert!(missing.contains("no such volume"), "{missing}");
}

#[test]
fn networks_connect_by_name() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let (network, name) = ("serve-net", "serve-net-web");
    let container = Container::named(&hull, name);
    let _ = hull.run(&["network", "rm", network]);
    server.ok(&["network", "create", "--label", "of=test", network]);
    assert_eq!(
        server.ok(&["network", "ls", "-q", "-f", "label=of=test", "--no-trunc"]),
        hull.ok(&["network", "inspect", "-f", "{{.Id}}", network])
    );
    let again = server.fails(&["network", "create", network], 1);
    assert!(again.contains("already exists"), "{again}");
    let serve = "echo hi > /index.html; exec httpd -f -p 80 -h /";
    server.ok(&[
        "run",
        "-d",
        "--name",
        name,
        "--network",
        network,
        "--network-alias",
        "web",
        "-p",
        "127.0.0.1::80",
        "busybox",
        "sh",
        "-c",
        serve,
    ]);
    let fetch = "until wget -qO- http://web/; do sleep 0.1; done";
    let fetched = server.ok(&[
        "run",
        "--rm",
        "--network",
        network,
        "busybox",
        "sh",
        "-c",
        fetch,
    ]);
    assert_eq!(fetched, "hi");
    let port = server.ok(&["port", name, "80"]);
    assert_eq!(port, hull.ok(&["port", name, "80"]));
    let template =
        "{{(index .Containers \"ID\").Name}}".replace("ID", &hull.field(name, "{{.Id}}"));
    assert_eq!(
        server.ok(&["network", "inspect", "-f", &template, network]),
        name
    );
    let in_use = server.fails(&["network", "rm", network], 1);
    assert!(in_use.contains(name), "{in_use}");
    drop(container);
    server.ok(&["network", "rm", network]);
}
