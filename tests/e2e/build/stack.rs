//! Images of several parents.

use super::Project;
use crate::harness::Hull;

#[test]
fn images_are_stacked_and_conflicts_told() {
    let hull = Hull::fresh();
    let tool = |name: &str, rest: &str| {
        let script = format!("#!/bin/sh\necho {name}\n");
        let dockerfile =
            format!("FROM scratch\nCOPY --chmod=755 tool /usr/local/bin/{name}\n{rest}");
        let project = Project::new(&dockerfile, &[("tool", &script)]);
        project.build(&hull, &["-q", "-t", name]);
    };
    tool(
        "one",
        "COPY tool /etc/both\nENV A=1 PATH=/opt/one:/bin\nCMD [\"one\"]\n",
    );
    tool(
        "two",
        "COPY tool /etc/both\nENV A=2\nENTRYPOINT [\"two\"]\n",
    );
    let done = hull.run(&["image", "stack", "busybox", "one", "two", "-t", "all"]);
    assert_eq!(done.code, 0, "{done:#?}");
    for conflict in [
        "environment: A=2 of two replaces A=1",
        "entrypoint: [\"two\"] of two is not used",
        "/etc/both of one is replaced",
    ] {
        assert!(
            done.stderr.contains(conflict),
            "{conflict}: {}",
            done.stderr
        );
    }
    assert_eq!(
        done.stderr.matches("conflict: ").count(),
        3,
        "{}",
        done.stderr
    );
    let script =
        "one; two; echo $A; cat /etc/both; echo $PATH | grep -o '/opt/one$'; ls -d /etc/passwd";
    assert_eq!(
        hull.ok(&["run", "--rm", "all", "sh", "-c", script]),
        "one\ntwo\n2\n#!/bin/sh\necho two\n/opt/one\n/etc/passwd"
    );
    assert_eq!(hull.field("all", "{{json .Config.Cmd}}"), "[\"sh\"]");
    // The same images make the same stack.
    assert_eq!(
        hull.ok(&["image", "stack", "busybox", "one", "two"]),
        done.stdout.trim()
    );
    let error = hull.fails(
        &[
            "image", "stack", "--strict", "busybox", "one", "two", "-t", "strict",
        ],
        1,
    );
    assert!(error.contains("do not go together"), "{error}");
    hull.fails(&["image", "inspect", "strict"], 1);
    // Images of one base have it in common.
    for (name, step) in [("left", "RUN echo l > /l"), ("right", "RUN echo r > /r")] {
        let project = Project::new(&format!("FROM busybox\n{step}\n"), &[]);
        project.build(&hull, &["-q", "-t", name]);
    }
    let done = hull.run(&[
        "run",
        "--rm",
        "--with",
        "right",
        "--with",
        "one",
        "left",
        "sh",
        "-c",
        "cat /l /r; one",
    ]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "l\nr\none\n"),
        "{done:#?}"
    );
    let error = hull.fails(
        &[
            "image",
            "stack",
            "--platform",
            "linux/amd64",
            "busybox",
            "nosuchimage",
        ],
        1,
    );
    assert!(error.contains("nosuchimage"), "{error}");
}
