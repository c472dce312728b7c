//! Every row of what docker's command line does, beside hull's own: the same lines on two state
//! directories, one through `hull serve`, and the same output and exit codes.

use std::process::{Command, Stdio};

use super::Server;
use crate::harness::{Done, Hull};

/// What is compared of a line's outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Compared {
    /// Exit code and standard output.
    Output,
    /// Exit code, standard output and standard error.
    Both,
    /// The exit code, which is no success, and hull's sentence in docker's error.
    Refusal,
    /// The exit code and the last line: what is before tells of progress.
    End,
}

use Compared::{Both, End, Output, Refusal};

/// Rows, in an order in which each finds what it is about. `DIR` is a directory of the side's own.
const ROWS: &[(&str, &[(Compared, &str)])] = &[
    (
        "run --rm",
        &[
            (
                Both,
                "run --rm busybox sh -c 'echo out; echo err >&2; exit 7'",
            ),
            (Output, "run --rm -i busybox cat"),
            (Refusal, "run --rm busybox no-such-program"),
            (Refusal, "run --rm busybox /etc/passwd"),
        ],
    ),
    (
        "missing image",
        &[
            (Output, "rmi busybox"),
            (Output, "run --rm busybox echo pulled"),
            (Refusal, "run --rm no-such-image"),
        ],
    ),
    (
        "run -d",
        &[
            (
                Output,
                "run -d --name box --label of=rows -e A=B -p 127.0.0.1::80 busybox sh -c 'echo out; echo err >&2; echo x > /new; trap \"exit 3\" TERM; while :; do sleep 0.05; done'",
            ),
            (Refusal, "run -d --name box busybox"),
        ],
    ),
    (
        "start, stop, kill, wait, rename",
        &[
            (Output, "stop -t 1 box"),
            (Output, "wait box"),
            (Output, "start box"),
            (Output, "kill box"),
            (Output, "wait box"),
            (Output, "rename box other"),
            (Output, "rename other box"),
            (Output, "start box"),
            (Output, "restart -t 0 box"),
            (Output, "pause box"),
            (Output, "unpause box"),
            (Output, "update --restart on-failure:2 box"),
            (Output, "update --restart no box"),
            (Refusal, "start no-such"),
            (Refusal, "unpause box"),
        ],
    ),
    (
        "rm -f",
        &[
            (Refusal, "rm box"),
            (Output, "create --name gone busybox"),
            (Output, "rm -f gone"),
            (Refusal, "rm gone"),
        ],
    ),
    (
        "ps",
        &[
            (Output, "create --name made busybox true"),
            (
                Output,
                "ps --format '{{.Names}} {{.Image}} {{.Command}} {{.State}}'",
            ),
            (
                Output,
                "ps -a --format 'table {{.Names}}\\t{{.Image}}\\t{{.Command}}\\t{{.State}}'",
            ),
            (
                Output,
                "ps -a -f status=created --format '{{.Names}} {{.Status}} {{.Labels}}'",
            ),
            (Output, "ps -aq -f status=exited"),
            (Output, "ps -a -f label=of=rows --format '{{.Names}}'"),
            (
                Output,
                "ps -a -s -f name=made --format '{{.Names}} {{.Size}}'",
            ),
            (Output, "rm made"),
        ],
    ),
    (
        "inspect",
        &[
            (
                Output,
                "inspect -f '{{json .Config.Cmd}} {{json .Config.Env}} {{json .Config.Labels}} {{.Path}} {{.Name}}' box",
            ),
            (
                Output,
                "inspect -f '{{.HostConfig.RestartPolicy.Name}} {{json .HostConfig.PortBindings}} {{.State.Status}}' box",
            ),
            (
                Output,
                "inspect -f '{{.RepoTags}} {{.Os}}/{{.Architecture}} {{json .Config.Cmd}} {{.RootFS.Type}}' busybox",
            ),
            (
                Output,
                "inspect -f '{{.Name}} {{.Driver}} {{.Scope}}' bridge",
            ),
            (Refusal, "inspect nothing"),
        ],
    ),
    (
        "exec",
        &[
            (Both, "exec box sh -c 'echo out; echo err >&2; exit 5'"),
            (
                Output,
                "exec -e C=D -w /tmp -u 1 box sh -c 'echo $C $(pwd) $(id -u)'",
            ),
            (Output, "exec -i box cat"),
            (Refusal, "exec box no-such"),
            (Refusal, "exec nothing true"),
        ],
    ),
    (
        "logs",
        &[
            (Both, "logs box"),
            (Both, "logs --tail 1 box"),
            (Both, "logs --since 2h --until 1h box"),
            (Output, "run --name short busybox sh -c 'echo a; echo b'"),
            (Both, "logs -f short"),
            (Refusal, "logs nothing"),
        ],
    ),
    (
        "cp out",
        &[
            (End, "cp short:/etc/passwd DIR/passwd"),
            (Output, "cp short:/etc/passwd -"),
            (Refusal, "cp short:/no/such DIR/x"),
        ],
    ),
    (
        "cp in",
        &[
            (End, "cp DIR/in short:/in"),
            (End, "cp DIR/in box:/in"),
            (Output, "exec box cat /in"),
            (Refusal, "cp DIR/in short:/no/such/place"),
        ],
    ),
    (
        "top, stats, diff, port",
        &[
            (Output, "run -d --name still busybox sleep 1000"),
            (Output, "top still -o comm"),
            (Output, "rm -f still"),
            (Output, "stats --no-stream --format '{{.Name}}' box"),
            (Output, "diff box"),
            (Output, "diff short"),
            (Output, "port box 80"),
            (Refusal, "port box 81"),
        ],
    ),
    (
        "commit",
        &[
            (
                Output,
                "commit -a me -m why -c 'CMD cat /in' short committed:1",
            ),
            (Output, "run --rm committed:1"),
            (Output, "rm short"),
        ],
    ),
    (
        "images",
        &[
            (
                Output,
                "images --format '{{.Repository}}:{{.Tag}} {{.Size}}' busybox",
            ),
            (Output, "images -q -f dangling=true"),
            (Output, "images -a --format '{{.Repository}}'"),
            (Output, "image ls -q --no-trunc busybox"),
        ],
    ),
    (
        "history, tag, rmi",
        &[
            (
                Output,
                "history --format '{{.CreatedBy}} {{.Size}} {{.Comment}}' committed:1",
            ),
            (Output, "tag committed:1 tagged:2"),
            (Output, "rmi tagged:2"),
            (Output, "rmi committed:1"),
            (Refusal, "rmi committed:1"),
        ],
    ),
    (
        "save, load, import",
        &[
            (Output, "save -o DIR/saved.tar busybox"),
            (Output, "load -i DIR/saved.tar"),
            (Output, "load -q -i DIR/saved.tar"),
            (Output, "export -o DIR/exported.tar box"),
            (
                Output,
                "import -c 'CMD cat /in' DIR/exported.tar imported:1",
            ),
            (Output, "run --rm imported:1"),
            (Refusal, "save -o DIR/none.tar no-such"),
        ],
    ),
    (
        "pull",
        &[
            (End, "pull busybox:1"),
            (Output, "pull -q busybox"),
            (Refusal, "pull no-such"),
            (Output, "rmi busybox:1"),
        ],
    ),
    (
        "volume",
        &[
            (Output, "volume create --label a=b vol"),
            (Output, "volume ls -q"),
            (
                Output,
                "volume ls -f dangling=true --format '{{.Driver}} {{.Name}}'",
            ),
            (
                Output,
                "volume inspect -f '{{.Name}} {{.Driver}} {{.Labels}}' vol",
            ),
            (
                Output,
                "run --rm -v vol:/v busybox sh -c 'echo kept > /v/x'",
            ),
            (Output, "run --rm -v vol:/v:ro busybox cat /v/x"),
            (Output, "volume rm vol"),
            (Refusal, "volume rm vol"),
        ],
    ),
    (
        "network",
        &[
            (
                Output,
                "network create --subnet 10.78.0.0/24 --label a=b net",
            ),
            (
                Output,
                "network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'",
            ),
            (
                Output,
                "network inspect -f '{{.Name}} {{(index .IPAM.Config 0).Subnet}} {{.Labels}}' net",
            ),
            (Output, "network connect --alias there net box"),
            (
                Output,
                "run --rm --network net busybox sh -c 'ping -c 1 -W 5 there > /dev/null && echo reached'",
            ),
            (Refusal, "network rm net"),
            (Output, "network disconnect net box"),
            (Output, "network rm net"),
            (Refusal, "network create bridge"),
        ],
    ),
    (
        "build",
        &[
            (End, "build -t built:1 --build-arg A=7 --label l=m DIR"),
            (Output, "run --rm built:1"),
            (
                Output,
                "inspect -f '{{.Config.Labels}} {{.Config.WorkingDir}}' built:1",
            ),
            (Refusal, "build --target nowhere DIR"),
        ],
    ),
    (
        "events",
        &[(
            Output,
            "events --since 1 --until 0s --filter container=box --filter event=start --filter event=kill --format '{{.Type}} {{.Action}}'",
        )],
    ),
    (
        "system prune",
        &[
            (Output, "rm -f box"),
            (End, "system prune -f"),
            (End, "image prune -af"),
            (Output, "images -q"),
            (Output, "ps -aq"),
        ],
    ),
];

#[test]
fn every_row_is_what_hull_does() {
    let (theirs, ours) = (Hull::fresh(), Hull::fresh());
    let server = Server::new(&theirs);
    let sides = [side(), side()];
    for hull in [&theirs, &ours] {
        hull.ok(&["pull", "-q", "busybox"]);
    }
    let mut wrong = Vec::new();
    for (row, lines) in ROWS {
        for (compared, line) in *lines {
            let words = |directory: &tempfile::TempDir| -> Vec<String> {
                let place = directory.path().display().to_string();
                super::schema::shell_words(line)
                    .iter()
                    .map(|word| word.replace("DIR", &place))
                    .collect()
            };
            let one = run(server.command(&[]), &words(&sides[0]));
            let other = run(ours.command::<&str>(&[]), &words(&sides[1]));
            if !agree(*compared, &one, &other) {
                eprintln!("{row}: {line}");
                wrong.push(format!(
                    "{row}: {line}\n  docker: {one:?}\n  hull: {other:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn terminals_are_the_same() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let line = "run --rm -it busybox sh -c 'tty; echo $TERM; exit 4'";
    let with = |program: &str| {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{program} {line}"), "/dev/null"]);
        let own = hull.command::<&str>(&[]);
        command.envs(
            own.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        outcome(server.point(&mut command).stdin(Stdio::null()))
    };
    let program = hull
        .command::<&str>(&[])
        .get_program()
        .to_string_lossy()
        .into_owned();
    let (one, other) = (with("docker"), with(&program));
    assert_eq!(
        (one.code, &one.stdout),
        (4, &other.stdout),
        "{one:?} {other:?}"
    );
    assert_eq!(one.code, other.code);
}

/// A directory with what the lines read.
fn side() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("in", "from outside\n");
    write(".dockerignore", "*.tar\n");
    write(
        "Dockerfile",
        "FROM busybox AS base\nARG A=1\nRUN echo built $A > /built\nFROM base\nWORKDIR /w\nCOPY in ./\nCMD cat /built in\n",
    );
    directory
}

fn run(mut command: impl std::borrow::BorrowMut<Command>, words: &[String]) -> Done {
    let mut input = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut input, b"typed\n").unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    let command: &mut Command = command.borrow_mut();
    outcome(command.args(words).stdin(Stdio::from(input)))
}

fn outcome(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    // What `script` shows of the end of its own input is nobody's output.
    let text = |bytes: &[u8]| shape(&String::from_utf8_lossy(bytes).replace("^@", ""));
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

fn agree(compared: Compared, docker: &Done, hull: &Done) -> bool {
    let last = |text: &str| text.lines().last().map(str::to_owned);
    let outcome = match compared {
        Output => docker.stdout == hull.stdout,
        Both => docker.stdout == hull.stdout && docker.stderr == hull.stderr,
        Refusal => {
            let sentence = hull.stderr.lines().last().unwrap_or_default();
            let sentence = sentence.trim_start_matches("hull: ");
            // The error of an `exec` that has begun is part of its output, as docker has it.
            let told = docker.stderr.contains(sentence) || docker.stdout.contains(sentence);
            hull.code != 0 && !sentence.is_empty() && told
        }
        End => last(&docker.stdout) == last(&hull.stdout),
    };
    outcome && docker.code == hull.code
}

/// Output with what differs from container to container and from run to run taken out: ids, and
/// ports that were chosen.
fn shape(text: &str) -> String {
    let mut shaped = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest
            .find(|c: char| !matches!(c, '0'..='9' | 'a'..='f'))
            .unwrap_or(rest.len());
        match run {
            12 | 64 => shaped.push_str("ID"),
            _ => shaped.push_str(&rest[..run]),
        }
        let next = rest[run..].chars().next().map_or(0, char::len_utf8);
        shaped.push_str(&rest[run..run + next]);
        rest = &rest[run + next..];
    }
    match shaped.split_once("127.0.0.1:") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}127.0.0.1:PORT{after}")
        }
        None => shaped,
    }
}
