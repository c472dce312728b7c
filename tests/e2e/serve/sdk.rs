//! The libraries of Docker's API, as programs use them: each does the same things and says what
//! came of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Server;
use crate::harness::{Hull, repository};

/// What every one of them says.
pub const SAID: &str = "\
pulled busybox:latest
built from a file
streams HELLO done 3
logs one two three
exec out err 4
copied file abc 7
volume kept
network page
ended 137
events create start die destroy
cleaned up
";

/// Removes what an earlier, broken test of this name left.
pub fn clear(hull: &Hull, name: &str) {
    for leftover in [
        &["rm", "-f", name][..],
        &["volume", "rm", "-f", name],
        &["network", "rm", name],
        &["rmi", "-f", &format!("{name}:1")],
    ] {
        let _ = hull.run(leftover);
    }
}

fn session(name: &str, program: &Path, script: &str, environment: &[(&str, PathBuf)]) {
    assert!(program.is_file(), "make test gets it: scripts/clients");
    let hull = Hull::shared();
    let server = Server::new(&hull);
    clear(&hull, name);
    let mut command = Command::new(program);
    command
        .arg(repository().join("tests/clients").join(script))
        .arg(name)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let output = server.point(&mut command).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let (ended, story) = (output.status, format!("{said}\n{errors}"));
    if !ended.success() {
        clear(&hull, name);
    }
    assert!(ended.success(), "{story}");
    assert_eq!(said, SAID, "{errors}");
}

#[test]
fn docker_py() {
    let python = repository().join("target/clients/docker-py/bin/python");
    session("sdk-py", &python, "docker-py/session.py", &[]);
}

#[test]
fn docker_py_5_of_debian() {
    let python = Path::new("/usr/bin/python3");
    session("sdk-py5", python, "docker-py/session.py", &[]);
}

#[test]
fn dockerode() {
    let modules = repository().join("target/clients/dockerode/node_modules");
    let paths = std::env::var_os("PATH").unwrap();
    let node = std::env::split_paths(&paths).map(|path| path.join("node"));
    let node = node.into_iter().find(|path| path.is_file());
    let node = node.expect("node is installed by make test");
    let environment = [("NODE_PATH", modules)];
    session("sdk-node", &node, "dockerode/session.js", &environment);
}
