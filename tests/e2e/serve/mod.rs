//! `hull serve`, driven by docker's own clients.

mod bollard;
mod cli;
mod compose;
mod database;
mod doors;
mod hostile;
mod load;
mod rows;
mod schema;
mod sdk;
mod streams;
mod things;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{Done, Hull, PATIENCE};

/// A `hull serve` of the test's own, on the state directory that it is given.
pub struct Server<'a> {
    pub hull: &'a Hull,
    socket: PathBuf,
    process: Child,
    _directory: tempfile::TempDir,
}

impl<'a> Server<'a> {
    pub fn new(hull: &'a Hull) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("hull.sock");
        let process = spawn(hull, &socket);
        Self {
            hull,
            socket,
            process,
            _directory: directory,
        }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap()
    }

    /// `kill -9`, and another one in its place.
    pub fn replace(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(self.hull, &self.socket);
    }

    /// The real docker, pointed here.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        self.point(command.args(arguments));
        command
    }

    /// Points a client of any kind here.
    pub fn point<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_BUILDKIT", "0")
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null())
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        self.feed(arguments, b"")
    }

    /// Runs docker to the end with `input`.
    pub fn feed(&self, arguments: &[&str], input: &[u8]) -> Done {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, input).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let output = self.command(arguments).stdin(file).output();
        let output = output.expect("docker's command line is installed by make test");
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "docker {arguments:?}: {done:#?}");
        done.stdout.trim_end_matches('\n').to_owned()
    }

    #[track_caller]
    pub fn fails(&self, arguments: &[&str], code: i32) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, code, "docker {arguments:?}: {done:#?}");
        done.stderr
    }

    /// One request as it is written, and the whole answer.
    pub fn raw(&self, request: &[u8]) -> String {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // An early answer to what is refused may come before all is written.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(hull: &Hull, socket: &Path) -> Child {
    let socket = socket.display().to_string();
    let mut process = hull
        .command(&["serve", "--socket", &socket])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(process.stderr.take().unwrap()).lines();
    let first = errors.next().expect("it says where it serves").unwrap();
    assert!(first.contains(&socket), "{first}");
    // What it says later is shown where a test fails.
    std::thread::spawn(move || {
        for line in errors.map_while(Result::ok) {
            eprintln!("hull serve: {line}");
        }
    });
    process
}

/// Removes a container of a test when it ends, however it ends.
pub struct Container<'a>(pub &'a Hull, pub &'static str);

impl<'a> Container<'a> {
    pub fn named(hull: &'a Hull, name: &'static str) -> Self {
        let _ = hull.run(&["rm", "-f", name]);
        Self(hull, name)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.0.run(&["rm", "-f", self.1]);
    }
}
