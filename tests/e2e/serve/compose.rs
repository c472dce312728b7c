//! docker-compose 2, Debian's own, and a project of a database and its clients.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Done, Hull, eventually, fetch, repository};

const PROJECT: &str = "\
services:
  db:
    image: redis
    healthcheck:
      test: [CMD, redis-cli, ping]
      interval: 1s
      retries: 60
    volumes: [\"data:/data\"]
  python:
    build: .
    depends_on:
      db: {condition: service_healthy}
    command: sh -c 'cat /app/hello; exec sleep 1000'
  worker:
    image: busybox
    platform: linux/arm64
    command: sh -c 'uname -m; exec sleep 1000'
  extra:
    image: busybox
    profiles: [extra]
    command: echo extra ran
volumes:
  data:
";

/// Talks to the database by its name.
const CLIENT: &str = "\
import socket
s = socket.create_connection(('db', 6379))
s.sendall(b'GET key\\r\\n')
print(s.recv(100).decode().split()[1])
";

/// A directory with a project in it, and docker-compose for it through `hull compose`.
pub struct Project<'a> {
    hull: &'a Hull,
    name: &'static str,
    directory: tempfile::TempDir,
    plugins: tempfile::TempDir,
}

impl<'a> Project<'a> {
    pub fn new(hull: &'a Hull, name: &'static str, files: &[(&str, &str)]) -> Self {
        let directory = tempfile::Builder::new().prefix(name).tempdir().unwrap();
        for (file, text) in files {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        let plugins = tempfile::tempdir().unwrap();
        let place = plugins.path().join("cli-plugins");
        std::fs::create_dir(&place).unwrap();
        std::os::unix::fs::symlink(program(), place.join("docker-compose")).unwrap();
        Self {
            hull,
            name,
            directory,
            plugins,
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self
            .hull
            .command(&[&["compose", "-p", self.name], arguments].concat());
        command
            .current_dir(self.directory.path())
            .env("DOCKER_CONFIG", self.plugins.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        let output = self.command(arguments).output().unwrap();
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "compose {arguments:?}: {done:#?}");
        done.stdout.trim().to_owned()
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:#?}", self.run(&["logs", "--tail", "50"]));
        }
        let _ = self.run(&["down", "-v", "--rmi", "local", "-t", "0"]);
    }
}

/// docker-compose 2 itself.
pub fn program() -> PathBuf {
    let program = repository().join("target/compose/docker-compose");
    assert!(
        program.is_file(),
        "make test gets docker-compose: scripts/compose"
    );
    program
}

#[test]
fn a_project_comes_up_works_and_goes() {
    let hull = Hull::shared();
    let more = "services: {python: {environment: {MORE: \"yes\"}}}\n";
    let dockerfile = "FROM python\nWORKDIR /app\nCOPY hello client.py ./\n";
    let project = Project::new(
        &hull,
        "composed",
        &[
            ("docker-compose.yml", PROJECT),
            ("more.yml", more),
            ("hello", "hello\n"),
            ("client.py", CLIENT),
            ("Dockerfile", dockerfile),
        ],
    );
    project.ok(&["build"]);
    project.ok(&["up", "-d"]);
    let shown = project.ok(&["ps", "--format", "{{.Service}} {{.State}} {{.Health}}"]);
    for row in ["db running healthy", "python running", "worker running"] {
        assert!(shown.contains(row), "{row}: {shown}");
    }
    assert!(project.ok(&["logs", "worker"]).contains("aarch64"));
    assert_eq!(
        project.ok(&["exec", "-T", "python", "cat", "hello"]),
        "hello"
    );
    assert_eq!(
        project.ok(&["exec", "-T", "db", "redis-cli", "set", "key", "kept"]),
        "OK"
    );
    assert_eq!(project.ok(&["exec", "-T", "db", "redis-cli", "save"]), "OK");
    let client = ["run", "--rm", "-T", "python", "python3", "client.py"];
    assert_eq!(project.ok(&client), "kept");
    assert_eq!(
        project.ok(&["--profile", "extra", "run", "--rm", "extra"]),
        "extra ran"
    );
    assert_eq!(
        project
            .run(&["exec", "-T", "python", "sh", "-c", "exit 7"])
            .code,
        7
    );

    // A following client ends with what it follows. docker-compose says nothing when it begins to,
    // and one that has come too late for an end waits for the next, with docker too.
    let mut logs = project
        .command(&["logs", "-f", "worker"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ended = None;
    eventually("the end of what follows the logs", || {
        project.ok(&["start", "worker"]);
        project.ok(&["stop", "-t", "0", "worker"]);
        ended = logs.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success());

    project.ok(&["down"]);
    assert_eq!(
        hull.ok(&[
            "ps",
            "-aq",
            "-f",
            "label=com.docker.compose.project=composed"
        ]),
        ""
    );
    let files = ["-f", "docker-compose.yml", "-f", "more.yml"];
    let with = |rest: &[&'static str]| [&files[..], rest].concat();
    project.ok(&with(&["up", "-d"]));
    let more = project.ok(&with(&["exec", "-T", "python", "sh", "-c", "echo $MORE"]));
    assert_eq!(more, "yes");
    assert_eq!(project.ok(&client), "kept", "volumes outlive down");
    project.ok(&["down", "-v"]);
    assert_eq!(
        hull.ok(&["volume", "ls", "-q", "-f", "name=composed_data"]),
        ""
    );
    assert_eq!(hull.ok(&["network", "ls", "-q", "-f", "name=composed"]), "");
}

#[test]
fn architectures_come_up_together() {
    let hull = Hull::shared();
    // Each half of the page is written by a machine of its own kind.
    let files = "\
services:
  web:
    image: busybox
    platform: linux/amd64
    ports: [\"127.0.0.1::80\"]
    volumes: [\"pages:/pages\"]
    command: sh -c 'uname -m > /pages/web; exec httpd -f -p 80 -h /pages'
  worker:
    image: busybox
    platform: linux/arm64
    depends_on: [web]
    command: sh -c 'until wget -qO /tmp/seen http://web/web; do sleep 0.1; done;
      echo \"$$(uname -m) sees $$(cat /tmp/seen)\"; exec sleep 1000'
volumes:
  pages:
";
    let project = Project::new(&hull, "mixed", &[("compose.yml", files)]);
    project.ok(&["up", "-d"]);
    let place = project.ok(&["port", "web", "80"]);
    eventually("the page is served", || {
        fetch(&place, "/web").trim() == "x86_64"
    });
    eventually("the worker has seen it", || {
        project.ok(&["logs", "--no-log-prefix", "worker"]) == "aarch64 sees x86_64"
    });
    let shown = project.ok(&["ps", "--format", "{{.Service}} {{.State}}"]);
    assert_eq!(shown.lines().count(), 2, "{shown}");
    project.ok(&["down", "-v", "-t", "0"]);
}

#[test]
fn compose_says_how_to_get_it() {
    let hull = Hull::shared();
    let nowhere = tempfile::tempdir().unwrap();
    let output = hull
        .command(&["compose", "up"])
        .env("DOCKER_CONFIG", nowhere.path())
        .env("PATH", nowhere.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(text.contains("docker-compose 2 is not installed"), "{text}");
}

#[test]
fn the_first_compose_works_too() {
    let hull = Hull::shared();
    let server = super::Server::new(&hull);
    let directory = tempfile::Builder::new().prefix("first").tempdir().unwrap();
    let project = "version: \"2.4\"\nservices:\n  db: {image: redis}\n  web: {image: busybox, links: [db], command: sleep 1000}\n";
    std::fs::write(directory.path().join("docker-compose.yml"), project).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new("/usr/bin/docker-compose");
        server.point(command.args(["-p", "first"]).args(arguments));
        let output = command.current_dir(directory.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["up", "-d"]);
    assert!(run(&["ps"]).contains("first_web_1"));
    let pinged = run(&["run", "--rm", "web", "ping", "-c", "1", "db"]);
    assert!(pinged.contains("1 packets received"), "{pinged}");
    run(&["down", "-v", "-t", "0"]);
    let left = hull.ok(&["ps", "-aq", "-f", "label=com.docker.compose.project=first"]);
    assert_eq!(left, "");
}
