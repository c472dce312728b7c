//! docker-py, as programs use it.

use std::process::Command;

use super::{Container, Server};
use crate::harness::{Hull, repository};

const SAID: &str = "\
built
exit 3 bad
log up
exec 4 (b'out\\n', b'err\\n')
file file 3 b'abc' 7
list ['serve-py']
limit 536870912
made serve-py serve-py
ended 137
event destroy
no such image
socket through
";

#[test]
fn a_python_program_gets_what_it_expects() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let _removed = Container::named(&hull, "serve-py");
    let _ = hull.run(&["volume", "rm", "-f", "serve-py"]);
    let _ = hull.run(&["network", "rm", "serve-py"]);
    let mut python = Command::new("/usr/bin/python3");
    python.arg(repository().join("tests/e2e/serve/docker_py.py"));
    let host = server.command(&[]);
    for (name, value) in host.get_envs() {
        if let Some(value) = value {
            python.env(name, value);
        }
    }
    let output = python.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert_eq!(said, SAID, "{errors}");
}
