//! The command lines of the workshop about containers, word for word where a test can.

use std::process::Command;

use crate::harness::{Hull, eventually};

/// A shell in which `hull` is this one with this state.
fn shell(hull: &Hull, directory: &std::path::Path, script: &str) -> (i32, String) {
    let like = hull.command(&["version"]);
    let program = std::path::absolute(like.get_program()).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command
        .args([
            "-c",
            &format!("shopt -s expand_aliases\nexec 2>&1\n{script}"),
        ])
        .current_dir(directory)
        .env(
            "PATH",
            format!("{}:{path}", program.parent().unwrap().display()),
        );
    for (name, value) in like.get_envs() {
        command.env(name, std::path::absolute(value.unwrap()).unwrap());
    }
    let done = command.output().unwrap();
    let code = done.status.code().unwrap_or(-1);
    (code, String::from_utf8_lossy(&done.stdout).into_owned())
}

#[test]
fn nothing_is_left_over_with_rm() {
    let hull = Hull::fresh();
    let here = tempfile::tempdir().unwrap();
    let script = "printf 'echo hello > test.txt\\ncat test.txt\\n' | \
                  hull run --rm -i -q busybox /bin/sh && hull ps -a -q";
    assert_eq!(shell(&hull, here.path(), script), (0, "hello\n".into()));
}

#[test]
fn a_file_is_copied_out_of_an_exited_container() {
    let hull = Hull::fresh();
    let here = tempfile::tempdir().unwrap();
    let script = "printf 'echo hello > test.txt\\nexit\\n' | hull run -i -q busybox /bin/sh
        id=$(hull ps -a --format '{{.ID}}')
        hull cp -q $id:/test.txt ./
        cat test.txt
        hull rm $id >/dev/null
        hull ps -a -q";
    assert_eq!(shell(&hull, here.path(), script), (0, "hello\n".into()));
}

#[test]
fn the_current_directory_is_mounted() {
    let hull = Hull::fresh();
    let here = tempfile::tempdir().unwrap();
    let script = "echo 'echo hello2 > /test_mnt/test.txt' | \
                  hull run --rm -i -q --volume ${PWD}:/test_mnt/ busybox /bin/sh; cat test.txt";
    assert_eq!(shell(&hull, here.path(), script), (0, "hello2\n".into()));
}

#[test]
fn an_entrypoint_gets_the_arguments_and_can_be_replaced() {
    let hull = Hull::fresh();
    let here = tempfile::tempdir().unwrap();
    let made = "id=$(hull create -q busybox)
        hull commit -c 'ENTRYPOINT [\"ls\"]' -c 'CMD [\"--help\"]' $id entrypoint_example >/dev/null";
    let (code, out) = shell(&hull, here.path(), made);
    assert_eq!(code, 0, "{out}");
    let run = |line: &str| shell(&hull, here.path(), line);
    let (_, help) = run("hull run --rm entrypoint_example");
    assert!(help.contains("Usage: ls"), "{help}");
    let (code, dot) = run("hull run --rm entrypoint_example .");
    assert!(code == 0 && dot.contains("bin"), "{dot}");
    let (code, long) = run("hull run --rm entrypoint_example -la");
    assert!(code == 0 && long.contains("drwx"), "{long}");
    // Why does this not work? It lists /bin/bash, which is not there.
    let (code, shell) = run("hull run --rm entrypoint_example /bin/bash");
    assert!(code != 0 && shell.contains("/bin/bash"), "{shell}");
    let (code, other) =
        run("echo 'echo in a shell' | hull run --rm -i --entrypoint /bin/sh entrypoint_example");
    assert_eq!((code, other.as_str()), (0, "in a shell\n"));
    let (_, entrypoint) = run("hull inspect -f '{{json .Config.Entrypoint}}' entrypoint_example");
    assert_eq!(entrypoint, "[\"ls\"]\n");
}

#[test]
fn health_is_seen_over_time_in_ps() {
    let hull = Hull::shared();
    hull.ok(&["pull", "-q", "python"]);
    let here = tempfile::tempdir().unwrap();
    let id = hull.ok(&["create", "python"]);
    let check = "HEALTHCHECK --interval=200ms --timeout=3s --retries=1 CMD python3 -c \
                 \"import urllib.request as r; r.urlopen('http://localhost:8000/')\" || exit 1";
    let command = "CMD [\"python3\", \"-m\", \"http.server\"]";
    hull.ok(&[
        "commit",
        "-c",
        check,
        "-c",
        command,
        &id,
        "healthcheck_example",
    ]);
    hull.ok(&["rm", &id]);
    let well = hull.background(&["healthcheck_example"]);
    let ill = hull.background(&["healthcheck_example", "sleep", "1000"]);
    let status = |id: &str| {
        let line = format!("hull ps -a --no-trunc | grep {id}");
        shell(&hull, here.path(), &line).1
    };
    eventually("the server is healthy", || {
        status(&well.id).contains("(healthy)")
    });
    eventually("the other is not", || {
        status(&ill.id).contains("(unhealthy)")
    });
    hull.ok(&["exec", "-d", &ill.id, "python3", "-m", "http.server"]);
    eventually("now it is", || status(&ill.id).contains("(healthy)"));
    drop((well, ill));
    hull.ok(&["rmi", "healthcheck_example"]);
}

/// The workshop's aliases with its own command's name, after `alias docker=hull`.
const ALIASES: &str = r#"
alias docker=hull
alias docker_clean='docker volume rm $(docker volume ls -qf dangling=true) ; docker rm $(docker ps -q -f status=exited) ; docker rmi $(docker images -q -f dangling=true)'
alias docker_stop_all='docker stop $(docker ps -a -q)'
alias docker_rm_all='docker_stop_all ; docker rm $(docker ps -a -q) --force'
alias docker_ps='docker ps -a --format "{{.ID}}\t{{.Names}}"'
alias docker_rm_exited='docker ps -a | grep Exit | cut -d " " -f 1 | xargs hull rm'
"#;

/// Aliases take effect on the next line, and in a substitution only if it is read after them.
fn with_aliases(hull: &Hull, directory: &std::path::Path, line: &str) -> (i32, String) {
    let quoted = line.replace('\'', "'\\''");
    shell(hull, directory, &format!("{ALIASES}\neval '{quoted}'"))
}

#[test]
fn the_aliases_clean_up() {
    let hull = Hull::fresh();
    let here = tempfile::tempdir().unwrap();
    let run = |line: &str| with_aliases(&hull, here.path(), line);
    hull.ok(&["pull", "-q", "busybox"]);
    hull.ok(&["volume", "create", "dangling"]);
    hull.ok(&["run", "--name", "ended", "busybox", "touch", "/x"]);
    let dangling = hull.ok(&["commit", "ended"]);
    let running = hull.background(&[
        "--name", "running", "-v", "used:/u", "busybox", "sleep", "1000",
    ]);

    let (code, listed) = run("docker_ps");
    assert_eq!((code, listed.lines().count()), (0, 2), "{listed}");
    assert!(listed.contains("\trunning\n"), "{listed}");
    let (code, cleaned) = run("docker_clean");
    assert_eq!(code, 0, "{cleaned}");
    assert!(
        cleaned.starts_with("dangling\n") && cleaned.contains(&dangling),
        "{cleaned}"
    );
    assert_eq!(hull.ok(&["ps", "-aq", "--no-trunc"]), running.id);
    assert_eq!(hull.ok(&["volume", "ls", "-q"]), "used");

    hull.ok(&["run", "--name", "again", "busybox", "true"]);
    let (code, said) = run("docker_rm_exited");
    assert_eq!(code, 0, "{said}");
    hull.fails(&["inspect", "again"], 1);

    let (code, said) = run("docker_rm_all");
    assert_eq!(code, 0, "{said}");
    assert_eq!(hull.ok(&["ps", "-aq"]), "");
    let nuke = "docker rmi --force $(docker images -q -a) ; \
                docker volume rm $(docker volume ls -qf dangling=true)";
    let (code, said) = run(nuke);
    assert_eq!(code, 0, "{said}");
    // The last of its lines: docker refuses its own networks and removes the others, too.
    hull.ok(&["network", "create", "other"]);
    let (code, said) = run("docker network rm $(docker network ls -q)");
    assert!(code == 1 && said.contains("pre-defined network"), "{said}");
    let left = hull.ok(&["network", "ls", "--format", "{{.Name}}"]);
    assert_eq!(left, "bridge");
    assert_eq!(
        hull.ok(&["images", "-qa"]) + &hull.ok(&["volume", "ls", "-q"]),
        ""
    );
}
