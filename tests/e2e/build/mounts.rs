//! `RUN --mount`: caches, secrets and SSH agents.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use super::Project;
use crate::harness::Hull;

#[test]
fn caches_have_the_owner_that_was_asked_for_and_begin_with_what_they_were_given() {
    let hull = Hull::fresh();
    let dockerfile = "FROM busybox AS seed\nRUN mkdir /seed; echo begun > /seed/file; chown -R 5:6 /seed; chmod 750 /seed\n\
        FROM busybox\n\
        RUN --mount=type=cache,target=/own,uid=1000,gid=1001,mode=0710 stat -c '%a %u %g' /own; touch /own/x\n\
        RUN --mount=type=cache,target=/filled,from=seed,source=/seed stat -c '%a %u %g' /filled; cat /filled/file; echo more >> /filled/file\n\
        RUN --mount=type=cache,id=/filled,target=/again cat /again/file\n";
    let project = Project::new(dockerfile, &[]);
    let out = project.build(&hull, &[]);
    assert!(out.contains("\n710 1000 1001\n"), "{out}");
    assert!(out.contains("\n750 5 6\nbegun\n"), "{out}");
    assert!(out.contains("\nbegun\nmore\n"), "{out}");
    // What it begins with is for a new one only.
    let out = project.build(&hull, &["--no-cache"]);
    assert!(out.contains("\n750 5 6\nbegun\nmore\n"), "{out}");
}

#[test]
fn commands_that_run_at_once_wait_for_a_cache_or_get_their_own() {
    let hull = Hull::shared();
    let id = std::process::id();
    // Both are there at the same time, with a private cache each.
    let meet = |me: &str, other: &str| {
        format!(
            "FROM busybox AS {me}\nRUN --mount=type=cache,id=private{id},target=/p,sharing=private --mount=type=cache,id=meet{id},target=/m \
             echo {me} > /p/who; touch /m/{me}; until [ -e /m/{other} ]; do usleep 10000; done; cat /p/who > /{me}\n"
        )
    };
    let dockerfile = meet("a", "b")
        + &meet("b", "a")
        + "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\nRUN cat /a /b\n";
    let out = Project::new(&dockerfile, &[]).build(&hull, &["--no-cache"]);
    assert!(out.contains("\na\nb\n"), "{out}");
    // Nobody ever finds another one in a cache that is locked.
    let stage = |number: u32| {
        format!(
            "FROM busybox AS s{number}\nRUN --mount=type=cache,id=locked{id},target=/l,sharing=locked \
             mkdir /l/busy && echo {number} >> /l/seen && usleep 100000 && rmdir /l/busy && touch /done{number}\n"
        )
    };
    let mut dockerfile: String = (0..3).map(stage).collect();
    dockerfile += "FROM busybox\n";
    for number in 0..3 {
        dockerfile += &format!("COPY --from=s{number} /done{number} /\n");
    }
    dockerfile += &format!("RUN --mount=type=cache,id=locked{id},target=/l sort /l/seen\n");
    let out = Project::new(&dockerfile, &[]).build(&hull, &["--no-cache"]);
    assert!(out.contains("\n0\n1\n2\n"), "{out}");
}

#[test]
fn a_secret_is_any_bytes_and_somebodys() {
    let hull = Hull::shared();
    let project = Project::new(
        "FROM busybox\nRUN --mount=type=secret,id=key,target=/k,uid=1,gid=2,mode=0440 od -An -tx1 /k; stat -c '%a %u %g' /k\n",
        &[],
    );
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(key.path(), b"\0\xff\n\x80").unwrap();
    let secret = format!("id=key,src={}", key.path().display());
    let out = project.build(&hull, &["--no-cache", "--secret", &secret]);
    assert!(out.contains(" 00 ff 0a 80\n440 1 2\n"), "{out}");
    fs::write(key.path(), vec![1; (500 << 10) + 1]).unwrap();
    let error = project.fails(&hull, &["--secret", &secret], 1);
    assert!(error.contains("the limit is 500 KiB"), "{error}");
    fs::write(key.path(), vec![200; 500 << 10]).unwrap();
    let long = Project::new(
        "FROM busybox\nRUN --mount=type=secret,id=key wc -c /run/secrets/key\n",
        &[],
    );
    let out = long.build(&hull, &["--no-cache", "--secret", &secret]);
    assert!(out.contains("\n512000 "), "{out}");
}

/// What an agent of two keys is asked, one entry per question.
fn agent(listener: &UnixListener, connections: usize) -> Vec<u8> {
    let mut asked = Vec::new();
    for _ in 0..connections {
        let (mut stream, _) = listener.accept().unwrap();
        let mut length = [0; 4];
        while stream.read_exact(&mut length).is_ok() {
            let mut question = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut question).unwrap();
            asked.push(question[0]);
            stream.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 2]).unwrap();
        }
    }
    asked
}

#[test]
fn an_ssh_agent_signs_for_a_command_and_does_nothing_else() {
    let hull = Hull::shared();
    let client = "\
import os, socket
path = os.environ['SSH_AUTH_SOCK']
print('path', path, oct(os.stat(path).st_mode))
def ask(*kinds):
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(path)
        answers = []
        for kind in kinds:
            agent.sendall(bytes([0, 0, 0, 1, kind]))
            size = int.from_bytes(agent.recv(4, socket.MSG_WAITALL), 'big')
            answers.append(agent.recv(size, socket.MSG_WAITALL)[0])
        return answers
print('answers', ask(11, 13), ask(11, 19, 17, 25, 22, 27))
";
    let project = Project::new(
        "FROM python\nCOPY client.py /\nRUN --mount=type=ssh python3 /client.py\nRUN test -z \"$SSH_AUTH_SOCK\" && ls -A /run/buildkit 2>&1; true\n",
        &[("client.py", client)],
    );
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("agent");
    let listener = UnixListener::bind(&path).unwrap();
    let asked = std::thread::scope(|scope| {
        let agent = scope.spawn(|| agent(&listener, 2));
        let ssh = format!("default={}", path.display());
        let out = project.build(&hull, &["--no-cache", "--ssh", &ssh]);
        let expected =
            "path /run/buildkit/ssh_agent.0 0o140600\nanswers [12, 12] [12, 5, 5, 5, 5, 5]\n";
        assert!(out.contains(expected), "{out}");
        assert!(out.contains("ls: cannot access '/run/buildkit'"), "{out}");
        agent.join().unwrap()
    });
    // Adding and removing keys and locking never got here.
    assert_eq!(asked, [11, 13, 11]);
    let error = project.fails(&hull, &["--ssh", "default=/dev/null"], 1);
    assert!(error.contains("no agent's socket"), "{error}");
    let required = Project::new("FROM busybox\nRUN --mount=type=ssh,required true\n", &[]);
    let error = required.fails(&hull, &[], 1);
    assert!(error.contains("use --ssh default"), "{error}");
}
