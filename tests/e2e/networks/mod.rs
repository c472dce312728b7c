//! Networks: who reaches whom, under which names, and who does not.

mod change;
mod commands;
mod holder;
mod names;
mod walls;

use crate::harness::{Hull, Running, eventually};

/// A network of the test's own, removed when the test ends.
struct Net<'a> {
    hull: &'a Hull,
    name: &'static str,
}

impl<'a> Net<'a> {
    fn new(hull: &'a Hull, name: &'static str, more: &[&str]) -> Self {
        hull.run(&["network", "rm", name]);
        hull.ok(&[&["network", "create"], more, &[name]].concat());
        Self { hull, name }
    }
}

impl Drop for Net<'_> {
    fn drop(&mut self) {
        self.hull.run(&["network", "rm", self.name]);
    }
}

/// A server that answers every connection with a greeting, in Python.
const GREETER: &str = "\
import socket, sys
s = socket.create_server(('', 7000))
print('ready', flush=True)
while True:
    c, _ = s.accept()
    c.sendall(sys.argv[1].encode())
    c.close()
";

/// A client that prints what such a server says, or why there is none.
const CLIENT: &str = "\
import socket, sys
try:
    print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).recv(100).decode())
except OSError as e:
    print('no:', type(e).__name__)
";

fn greeter<'a>(hull: &'a Hull, options: &[&str], greeting: &str) -> Running<'a> {
    let rest = ["python", "python3", "-c", GREETER, greeting];
    let running = hull.background(&[options, &rest].concat());
    ready(hull, &running);
    running
}

fn ready(hull: &Hull, running: &Running<'_>) {
    eventually("the server is ready", || {
        hull.ok(&["logs", &running.id]).contains("ready")
    });
}

fn ask(hull: &Hull, options: &[&str], host: &str, port: &str) -> String {
    let rest = ["python", "python3", "-c", CLIENT, host, port];
    hull.ok(&[&["run", "--rm"], options, &rest].concat())
}

fn address(hull: &Hull, id: &str, network: &str) -> String {
    let template = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
    hull.field(id, &template)
}
