//! A running container's networks change, and its name.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::*;

/// A connection that stays: says something whenever it is asked.
const TALKER: &str = "\
import socket, sys
s = socket.create_connection((sys.argv[1], 7000), 20)
print('connected', flush=True)
for line in sys.stdin:
    s.sendall(line.encode())
    print(s.recv(100).decode().strip(), flush=True)
";

/// Answers every line with the same, on every connection.
const ECHO: &str = "\
import socketserver
class H(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class S(socketserver.ThreadingTCPServer):
    daemon_threads = True
s = S(('', 7000), H)
print('ready', flush=True)
s.serve_forever()
";

/// A command that answers line by line.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn begin(hull: &Hull, arguments: &[&str]) -> Self {
        let mut command = hull.command(arguments);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn say(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        self.line()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn inside(hull: &Hull, id: &str, host: &str, port: &str) -> String {
    hull.ok(&["exec", id, "python3", "-c", CLIENT, host, port])
}

fn joins_and_leaves(hull: &Hull, first: &'static str, second: &'static str, engine: &[&str]) {
    let (one, two) = (Net::new(hull, first, &[]), Net::new(hull, second, &[]));
    let on = |net: &'static str| [engine, &["--network", net]].concat();
    let here = greeter(hull, &on(one.name), "from the first");
    let there = greeter(hull, &on(two.name), "from the second");
    let (here, there) = (
        address(hull, &here.id, one.name),
        address(hull, &there.id, two.name),
    );
    let moving = greeter(
        hull,
        &[&on(one.name)[..], &["-p", "127.0.0.1::7000"]].concat(),
        "moved",
    );
    let id = &moving.id;
    assert_eq!(inside(hull, id, &here, "7000"), "from the first");
    assert_ne!(inside(hull, id, &there, "7000"), "from the second");

    let alias = format!("alias-of-{second}");
    hull.ok(&["network", "connect", "--alias", &alias, two.name, id]);
    assert_eq!(inside(hull, id, &here, "7000"), "from the first");
    assert_eq!(inside(hull, id, &there, "7000"), "from the second");
    assert_eq!(ask(hull, &["--network", two.name], &alias, "7000"), "moved");
    let own = address(hull, id, two.name);
    assert!(hull.ok(&["exec", id, "cat", "/etc/hosts"]).contains(&own));

    // What somebody wrote into the files stays there.
    let append = "echo '192.0.2.7 mine' >> /etc/hosts";
    hull.ok(&["exec", id, "sh", "-c", append]);
    let before = address(hull, id, one.name);
    hull.ok(&["network", "disconnect", one.name, id]);
    assert_ne!(inside(hull, id, &here, "7000"), "from the first");
    assert_eq!(inside(hull, id, &there, "7000"), "from the second");
    let hosts = hull.ok(&["exec", id, "cat", "/etc/hosts"]);
    assert!(
        !hosts.contains(&before) && hosts.contains("192.0.2.7 mine"),
        "{hosts}"
    );
    let addresses = hull.ok(&["exec", id, "cat", "/proc/net/fib_trie"]);
    assert!(!addresses.contains(&before), "{addresses}");
    // The published port and the way outside lead through the network that is left.
    let port = hull.ok(&["port", id, "7000"]);
    let mut text = String::new();
    let mut published = TcpStream::connect(port.trim()).unwrap();
    published.read_to_string(&mut text).unwrap();
    assert_eq!(text, "moved");
    let route = hull.ok(&["exec", id, "cat", "/proc/net/route"]);
    let default = route
        .lines()
        .filter(|line| line.split_whitespace().nth(1) == Some("00000000"));
    assert_eq!(default.count(), 1, "{route}");

    // And back: the same address and the same interface.
    hull.ok(&["network", "connect", one.name, id]);
    assert_eq!(inside(hull, id, &here, "7000"), "from the first");
    assert!(
        hull.fails(&["network", "connect", one.name, id], 1)
            .contains("already exists")
    );
    hull.ok(&["restart", "-t", "0", id]);
    ready(hull, &moving);
    assert_eq!(inside(hull, id, &here, "7000"), "from the first");
    assert_eq!(inside(hull, id, &there, "7000"), "from the second");
}

#[test]
fn a_running_container_joins_and_leaves_networks() {
    joins_and_leaves(&Hull::shared(), "change-one", "change-two", &[]);
}

#[test]
fn a_running_whole_machine_joins_and_leaves_networks() {
    joins_and_leaves(
        &Hull::shared(),
        "whole-one",
        "whole-two",
        &["--engine", "tcg"],
    );
}

#[test]
fn connections_live_on_while_networks_and_names_change() {
    let hull = Hull::shared();
    let (net, other) = (
        Net::new(&hull, "stay-net", &[]),
        Net::new(&hull, "stay-other", &[]),
    );
    let serve = ["--network", net.name, "--name", "stay-server", "python"];
    let server = hull.background(&[&serve[..], &["python3", "-c", ECHO]].concat());
    ready(&hull, &server);
    let client = ["run", "--rm", "-i", "--network", net.name, "python"];
    let talker = ["python3", "-c", TALKER, "stay-server"];
    let mut talk = Talk::begin(&hull, &[&client[..], &talker].concat());
    assert_eq!(talk.line(), "connected");
    assert_eq!(talk.say("before"), "before");
    hull.ok(&["network", "connect", other.name, &server.id]);
    assert_eq!(talk.say("one more network"), "one more network");
    hull.ok(&["rename", "stay-server", "stay-renamed"]);
    assert_eq!(talk.say("another name"), "another name");
    hull.ok(&["network", "disconnect", other.name, &server.id]);
    assert_eq!(talk.say("one less"), "one less");
    // The gateway stays who it is when other members go.
    let on_net = ["--network", net.name];
    assert_eq!(ask(&hull, &on_net, "stay-server", "7000"), "no: gaierror");
    let lookup = "import socket; print(len(socket.gethostbyname_ex('stay-renamed')[2]))";
    let run = [
        &["run", "--rm"],
        &on_net[..],
        &["python", "python3", "-c", lookup],
    ]
    .concat();
    assert_eq!(hull.ok(&run), "1");
}

#[test]
fn the_gateway_keeps_its_hardware_address() {
    let hull = Hull::shared();
    let net = Net::new(&hull, "steady-net", &[]);
    let seen = greeter(&hull, &["--network", net.name], "x");
    let gateway = || {
        // Asked for, so that it is known.
        inside(&hull, &seen.id, "nobody-at-all", "1");
        let table = hull.ok(&["exec", &seen.id, "cat", "/proc/net/arp"]);
        let lines = table.lines().skip(1).map(|l| l.split_whitespace());
        lines
            .filter_map(|mut l| l.nth(3).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let first = gateway();
    assert_eq!(first.len(), 1);
    for _ in 0..4 {
        let on_net = ["run", "--rm", "--network", net.name, "busybox", "true"];
        hull.ok(&on_net);
        assert_eq!(gateway(), first);
    }
}

#[test]
fn links_follow_a_container_through_its_networks() {
    let hull = Hull::shared();
    let net = Net::new(&hull, "link-net", &[]);
    let target = ["--network", net.name, "--name", "link-target", "busybox"];
    let target = hull.background(&[&target[..], &["sleep", "1000"]].concat());
    // As docker-compose 1 does it: in and out again before the first start.
    let made = ["create", "--network", net.name, "--link", "link-target:db"];
    let linked = hull.ok(&[&made[..], &["busybox", "sleep", "1000"]].concat());
    let linked = linked.trim();
    hull.ok(&["network", "disconnect", net.name, linked]);
    let refused = hull.fails(&["start", linked], 1);
    assert!(refused.contains("Cannot link to link-target"), "{refused}");
    hull.ok(&["network", "connect", "--alias", "again", net.name, linked]);
    hull.ok(&["start", linked]);
    let line = format!("{}\tdb", address(&hull, &target.id, net.name));
    let hosts = || hull.ok(&["exec", linked, "cat", "/etc/hosts"]);
    assert!(hosts().contains(&line), "{}", hosts());
    hull.ok(&["network", "disconnect", net.name, linked]);
    assert!(!hosts().contains(&line), "{}", hosts());
    hull.ok(&["network", "connect", net.name, linked]);
    assert!(hosts().contains(&line), "{}", hosts());
    hull.ok(&["rm", "-f", linked]);
}

#[test]
fn links_are_made_and_removed_while_a_container_runs() {
    let hull = Hull::shared();
    let net = Net::new(&hull, "link-later-net", &[]);
    let target = ["--network", net.name, "--name", "link-later", "busybox"];
    let target = hull.background(&[&target[..], &["sleep", "1000"]].concat());
    let running = hull.background(&["busybox", "sleep", "1000"]);
    let id = running.id.as_str();
    let connect = [
        "network",
        "connect",
        "--link",
        "link-later:db",
        net.name,
        id,
    ];
    hull.ok(&connect);
    let line = format!("{}\tdb", address(&hull, &target.id, net.name));
    let hosts = || hull.ok(&["exec", id, "cat", "/etc/hosts"]);
    assert!(hosts().contains(&line), "{}", hosts());
    assert_eq!(hull.field(id, "{{len .HostConfig.Links}}"), "1");
    let link = format!("{id}/db");
    assert_eq!(hull.ok(&["rm", "--link", &link]), link);
    assert!(!hosts().contains(&line), "{}", hosts());
    let refused = hull.fails(&["rm", "--link", &link], 1);
    assert!(refused.contains("has no link db"), "{refused}");
    // Nothing is left of a connection whose link leads nowhere.
    hull.ok(&["network", "disconnect", net.name, id]);
    let wrong = ["network", "connect", "--link", "nobody:db", net.name, id];
    assert!(hull.fails(&wrong, 1).contains("nobody"));
    assert!(
        !hull
            .field(id, "{{json .NetworkSettings.Networks}}")
            .contains(net.name)
    );
}
