//! The Dockerfiles of a docker class, and what it asks to see. Its images come from Debian packages
//! here, and what its files fetch from the internet is made on the spot.

use super::Project;
use crate::harness::{Hull, eventually};

#[test]
fn a_broken_layer_is_entered_and_looked_at() {
    let hull = Hull::fresh();
    let project = Project::new("", &[]);
    project.write(
        "test.Dockerfile",
        "FROM busybox\nRUN echo \"hello\" > test.txt\n",
    );
    let file = |name: &str| project.path().join(name).to_str().unwrap().to_owned();
    let first = project.build(
        &hull,
        &["--file", &file("test.Dockerfile"), "--tag", "test"],
    );
    assert_eq!(
        hull.ok(&["run", "--rm", "test", "cat", "test.txt"]),
        "hello"
    );
    project.write(
        "test2.Dockerfile",
        "FROM busybox\nRUN echo \"hello\" > test.txt\n# deliberately break\nRUN exit 1\nRUN echo \"hello2\" > test.txt\n",
    );
    let done = project.run(
        &hull,
        &["--file", &file("test2.Dockerfile"), "--tag", "test"],
    );
    assert_eq!(done.code, 1);
    let (_, layer) = done.stdout.split_once("Using cache\n ---> ").unwrap();
    let layer = layer.lines().next().unwrap();
    assert!(first.contains(layer), "{first} and {layer}");
    assert_eq!(
        hull.ok(&[
            "run",
            "--rm",
            layer,
            "/bin/sh",
            "-c",
            "ls test.txt; cat test.txt"
        ]),
        "test.txt\nhello"
    );
    project.write(
        "test3.Dockerfile",
        "FROM busybox\nRUN echo \"hello\" > test.txt\nRUN echo \"hello2\" > test.txt\n",
    );
    project.build(
        &hull,
        &["--file", &file("test3.Dockerfile"), "--tag", "test"],
    );
    let history = hull.ok(&[
        "history",
        "--no-trunc",
        "--format",
        "{{.ID}} {{.CreatedBy}}",
        "test",
    ]);
    let steps: Vec<&str> = history.lines().take(2).collect();
    assert!(
        steps[0].ends_with("RUN /bin/sh -c echo \"hello2\" > test.txt"),
        "{history}"
    );
    assert_eq!(
        hull.field("test", "{{.Parent}}"),
        steps[1].split(' ').next().unwrap()
    );
    assert_ne!(
        hull.field("test", "{{.Architecture}} {{.Size}} {{len .RootFS.Layers}}"),
        ""
    );
    // Cleaning up as the class does it.
    let dangling = hull.ok(&["images", "-q", "-f", "dangling=true"]);
    assert_eq!(dangling, "", "what test2 left belongs to test3");
    hull.ok(&["rmi", "test"]);
    assert_eq!(hull.ok(&["images", "-a", "-q"]).lines().count(), 1);
}

#[test]
fn a_multistage_image_serves_what_its_stages_made() {
    let hull = Hull::fresh();
    let project = Project::new(
        "FROM python as base\n\nWORKDIR /app/\n\nFROM base as download\n    # tools and what they make\n    RUN mkdir /tools \\\n        && touch /tools/curl \\\n    && true\n    RUN echo data > elev.jpg\n\n\n\
         FROM base as production\n    COPY --from=download /app/ /app/\n    CMD [\"python3\", \"-m\", \"http.server\"]\n\
         HEALTHCHECK --interval=1s --timeout=3s CMD python3 -c 'from urllib.request import urlopen; urlopen(\"http://localhost:8000/\")' || exit 1\n\n\
         FROM base as shell\n    COPY --from=download /app/ /app/\n    CMD [\"/bin/bash\"]\n",
        &[],
    );
    project.build(
        &hull,
        &["--target", "production", "--tag", "multistage_example"],
    );
    let server = hull.background(&["--publish", "127.0.0.1::8000", "multistage_example"]);
    let address = hull.ok(&["port", &server.id, "8000"]);
    let fetch = || {
        let done = std::process::Command::new("curl")
            .args(["-s", &format!("http://{address}/elev.jpg")])
            .output();
        done.unwrap().stdout
    };
    eventually("the server answers", || fetch() == b"data\n");
    eventually("the health check says so", || {
        hull.ok(&["ps", "-a", "--format", "{{.Status}}"])
            .contains("(healthy)")
    });
    assert_eq!(hull.run(&["exec", &server.id, "ls", "/tools"]).code, 2);
    project.build(&hull, &["--target", "shell", "--tag", "multistage_example"]);
    let command = ["run", "--rm", "multistage_example", "cat", "/app/elev.jpg"];
    assert_eq!(hull.ok(&command), "data");
}

#[test]
fn an_entrypoint_takes_arguments_and_can_be_replaced() {
    let hull = Hull::shared();
    let project = Project::new("", &[]);
    project.write(
        "entrypoint_example.Dockerfile",
        "FROM busybox\nENTRYPOINT [\"ls\"]\nCMD [\"--help\"]\n",
    );
    let file = project.path().join("entrypoint_example.Dockerfile");
    project.build(
        &hull,
        &[
            "--tag",
            "entrypoint_example",
            "--file",
            file.to_str().unwrap(),
        ],
    );
    let done = hull.run(&["run", "--rm", "entrypoint_example"]);
    assert!(done.stderr.contains("Usage: ls"), "{done:#?}");
    assert!(
        hull.ok(&["run", "--rm", "entrypoint_example", "."])
            .contains("bin")
    );
    assert!(
        hull.ok(&["run", "--rm", "entrypoint_example", "-la"])
            .contains(" ..")
    );
    let entered = hull.ok(&[
        "run",
        "--rm",
        "--entrypoint",
        "/bin/sh",
        "entrypoint_example",
        "-c",
        "echo in",
    ]);
    assert_eq!(entered, "in");
    assert_eq!(
        hull.field("entrypoint_example", "{{json .Config.Entrypoint}}"),
        "[\"ls\"]"
    );
}
