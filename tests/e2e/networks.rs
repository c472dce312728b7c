//! Networks: who reaches whom, under which names, and who does not.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use crate::harness::{Hull, Running, alive, eventually};

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

#[test]
fn members_talk_by_name_whatever_their_architecture() {
    let hull = Hull::shared();
    let net = Net::new(&hull, "talk-net", &[]);
    let options = [
        "--network",
        net.name,
        "--name",
        "talk-server",
        "--network-alias",
        "greeter",
    ];
    let server = greeter(&hull, &options, "hello");
    let on_net = ["--network", net.name];
    for name in ["talk-server", "greeter", &server.id[..12]] {
        assert_eq!(ask(&hull, &on_net, name, "7000"), "hello", "{name}");
    }
    let arm = ["--platform", "linux/arm64", "--network", net.name];
    assert_eq!(ask(&hull, &arm, "talk-server", "7000"), "hello");
    // The name of an address, and of nobody.
    let lookup = "import socket, sys; print(socket.gethostbyaddr(sys.argv[1])[0])";
    let run = [
        "run",
        "--rm",
        "--network",
        net.name,
        "python",
        "python3",
        "-c",
        lookup,
    ];
    let address = address(&hull, &server.id, net.name);
    assert_eq!(hull.ok(&[&run[..], &[&address]].concat()), "talk-server");
    assert_eq!(ask(&hull, &on_net, "nobody-at-all", "7000"), "no: gaierror");
}

#[test]
fn whole_machines_of_other_architectures_are_on_networks_too() {
    let hull = Hull::shared();
    let net = Net::new(&hull, "whole-net", &[]);
    let server = greeter(
        &hull,
        &["--network", net.name, "--name", "whole-server"],
        "hello",
    );
    let address = address(&hull, &server.id, net.name);
    let ask = "nc -w 60 \"$0\" 7000 < /dev/null";
    for options in [
        &["--platform", "linux/arm64", "--emulation", "system"][..],
        &["--engine", "tcg"],
    ] {
        let run = ["run", "--rm", "--network", net.name];
        let rest = ["busybox", "sh", "-c", ask, &address];
        assert_eq!(
            hull.ok(&[&run[..], options, &rest].concat()),
            "hello",
            "{options:?}"
        );
    }
}

#[test]
fn a_redis_server_serves_a_client_of_another_architecture() {
    let hull = Hull::shared();
    let net = Net::new(&hull, "redis-net", &[]);
    let server = hull.background(&["--network", net.name, "--name", "redis-server", "redis"]);
    eventually("redis is ready", || {
        hull.ok(&["logs", &server.id])
            .contains("Ready to accept connections")
    });
    let script = "\
import socket
s = socket.create_connection(('redis-server', 6379), 20)
f = s.makefile('rw', newline='')
def say(*words):
    f.write('*%d\\r\\n' % len(words) + ''.join('$%d\\r\\n%s\\r\\n' % (len(w), w) for w in words))
    f.flush()
    return f.readline().strip()
print(say('SET', 'who', 'arm64'), say('GET', 'who'), f.readline().strip())
";
    let out = hull.ok(&[
        "run",
        "--rm",
        "--platform",
        "linux/arm64",
        "--network",
        net.name,
        "python",
        "python3",
        "-c",
        script,
    ]);
    assert_eq!(out, "+OK $5 arm64");
}

#[test]
fn networks_do_not_reach_each_other() {
    let hull = Hull::shared();
    let (one, two) = (
        Net::new(&hull, "apart-one", &[]),
        Net::new(&hull, "apart-two", &[]),
    );
    let server = greeter(
        &hull,
        &["--network", one.name, "--name", "apart-server"],
        "secret",
    );
    let address = address(&hull, &server.id, one.name);
    // Inside its network it answers, so that silence elsewhere means something.
    assert_eq!(
        ask(&hull, &["--network", one.name], &address, "7000"),
        "secret"
    );
    for options in [&["--network", two.name][..], &[], &["--network", "none"]] {
        let by_address = ask(&hull, options, &address, "7000");
        assert!(by_address.starts_with("no: "), "{options:?}: {by_address}");
        let by_name = ask(&hull, options, "apart-server", "7000");
        assert_eq!(by_name, "no: gaierror", "{options:?}");
    }
    // Who is in both reaches both.
    let container = hull.ok(&[
        "create",
        "--network",
        two.name,
        "python",
        "python3",
        "-c",
        CLIENT,
        "apart-server",
        "7000",
    ]);
    hull.ok(&["network", "connect", one.name, &container]);
    assert_eq!(hull.ok(&["start", "-a", &container]), "secret");
    hull.ok(&["network", "disconnect", one.name, &container]);
    assert_eq!(hull.ok(&["start", "-a", &container]), "no: gaierror");
    hull.ok(&["rm", &container]);
}

/// An address of this host that is not its loopback's.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .connect("198.51.100.1:9")
        .expect("the host has a default route");
    socket.local_addr().unwrap().ip()
}

/// A server on the host that greets everybody.
fn greet_on(address: IpAddr) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Who has gone needs no greeting.
            let _ = stream.unwrap().write_all(b"the host");
        }
    });
    port
}

#[test]
fn the_host_is_reached_only_where_that_was_asked_for() {
    let hull = Hull::shared();
    let host = own_address();
    let everywhere = greet_on([0, 0, 0, 0].into()).to_string();
    let loopback = greet_on([127, 0, 0, 1].into()).to_string();
    let asked = ["--add-host", "host.internal:host-gateway"];
    assert_eq!(ask(&hull, &asked, "host.internal", &everywhere), "the host");
    // Its loopback, by any of the names that lead there.
    assert!(ask(&hull, &asked, "host.internal", &loopback).starts_with("no: "));
    let plain = ask(&hull, &[], &host.to_string(), &everywhere);
    assert!(plain.starts_with("no: "), "{plain}");
    for name in [
        "127.0.0.1",
        "0.0.0.0",
        "172.17.0.1",
        "169.254.2.1",
        "169.254.2.2",
    ] {
        for port in [&loopback, &everywhere] {
            let said = ask(&hull, &asked, name, port);
            assert!(said.starts_with("no: "), "{name}: {said}");
        }
    }
}

#[test]
fn the_outside_is_reached_but_not_from_internal_networks() {
    let hull = Hull::shared();
    // A machine beyond this one: another network namespace.
    let outside = Outside::new();
    assert_eq!(ask(&hull, &[], &outside.address, "7000"), "far away");
    let net = Net::new(&hull, "inner-net", &["--internal"]);
    let said = ask(&hull, &["--network", net.name], &outside.address, "7000");
    assert!(said.starts_with("no: "), "{said}");
}

/// A server in a network namespace of its own, beside the host.
struct Outside {
    server: std::process::Child,
    address: String,
}

impl Outside {
    const NAMESPACE: &'static str = "hull-test-outside";

    fn new() -> Self {
        let ip = |arguments: &str| {
            let words = arguments.split_whitespace();
            Command::new("ip").args(words).status().unwrap().success()
        };
        let name = Self::NAMESPACE;
        ip(&format!("netns del {name}"));
        assert!(ip(&format!("netns add {name}")), "this test needs root");
        assert!(ip(&format!(
            "link add hull-outside type veth peer name eth0 netns {name}"
        )));
        assert!(ip("address add 198.18.77.1/24 dev hull-outside"));
        assert!(ip("link set hull-outside up"));
        assert!(ip(&format!(
            "-n {name} address add 198.18.77.2/24 dev eth0"
        )));
        assert!(ip(&format!("-n {name} link set eth0 up")));
        let mut server = Command::new("ip")
            .args([
                "netns", "exec", name, "python3", "-u", "-c", GREETER, "far away",
            ])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        server
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut byte)
            .unwrap();
        Self {
            server,
            address: "198.18.77.2".into(),
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("ip")
            .args(["netns", "del", Self::NAMESPACE])
            .status();
    }
}

#[test]
fn frames_with_another_address_are_lost() {
    let hull = Hull::shared();
    let net = Net::new(&hull, "spoof-net", &["--subnet", "10.77.0.0/24"]);
    let listener = "\
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 7001))
print('ready', flush=True)
while True:
    print(*[x if isinstance(x, bytes) else x[0] for x in s.recvfrom(100)], flush=True)
";
    let victim = hull.background(&[
        "--network",
        net.name,
        "--ip",
        "10.77.0.10",
        "python",
        "python3",
        "-c",
        listener,
    ]);
    ready(&hull, &victim);
    let mac = hull.field(
        &victim.id,
        "{{(index .NetworkSettings.Networks \"spoof-net\").MacAddress}}",
    );
    // Datagrams by hand: with a foreign network address, a foreign hardware address, as a false
    // answer to who has an address, and at last honestly.
    let attack = "\
import socket, struct, sys
target = bytes.fromhex(sys.argv[1].replace(':', ''))
own = bytes.fromhex(open('/sys/class/net/eth0/address').read().strip().replace(':', ''))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
def checksum(b):
    n = sum(struct.unpack('!%dH' % (len(b) // 2), b))
    n = (n & 0xffff) + (n >> 16)
    return ~(n + (n >> 16)) & 0xffff
def datagram(mac, source, text):
    udp = struct.pack('!HHHH', 7001, 7001, 8 + len(text), 0) + text
    ip = lambda c: struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, c,
                               socket.inet_aton(source), socket.inet_aton('10.77.0.10'))
    return target + mac + b'\\x08\\0' + ip(checksum(ip(0))) + udp
foreign = bytes.fromhex('0242aabbccdd')
s.send(datagram(own, '10.77.0.99', b'address'))
s.send(datagram(foreign, '10.77.0.66', b'hardware'))
arp = struct.pack('!HHBBH', 1, 0x800, 6, 4, 2)
for sender in [own, foreign]:
    for mac in [own, foreign]:
        s.send(target + mac + b'\\x08\\x06' + arp + sender + socket.inet_aton('10.77.0.1')
               + target + socket.inet_aton('10.77.0.10'))
s.send(datagram(own, '10.77.0.66', b'honest'))
";
    hull.ok(&[
        "run",
        "--rm",
        "--network",
        net.name,
        "--ip",
        "10.77.0.66",
        "--privileged",
        "python",
        "python3",
        "-c",
        attack,
        &mac,
    ]);
    eventually("the honest datagram arrives", || {
        hull.ok(&["logs", &victim.id]).contains("honest")
    });
    let seen = hull.ok(&["logs", &victim.id]);
    assert_eq!(seen, "ready\nb'honest' 10.77.0.66");
    let neighbours = hull.ok(&["exec", &victim.id, "cat", "/proc/net/arp"]);
    assert!(!neighbours.contains("02:42:aa:bb:cc:dd"), "{neighbours}");
    let gateway = neighbours
        .lines()
        .find(|line| line.starts_with("10.77.0.1 "));
    assert!(
        gateway.is_none_or(|line| !line.contains("02:42:0a:4d:00:42")),
        "{neighbours}"
    );
}

#[test]
fn links_and_hosts_files_name_containers() {
    let hull = Hull::shared();
    let server = greeter(&hull, &["--name", "linked-server"], "linked");
    let linked = ["--link", "linked-server:store"];
    for name in ["store", "linked-server", &server.id[..12]] {
        assert_eq!(ask(&hull, &linked, name, "7000"), "linked", "{name}");
    }
    // On the default network names are a matter of links, as in docker.
    assert_eq!(ask(&hull, &[], "linked-server", "7000"), "no: gaierror");
    let error = hull.fails(
        &["run", "--rm", "--link", "no-such:x", "busybox", "true"],
        125,
    );
    assert!(error.contains("No such container: no-such"), "{error}");
}

#[test]
fn ipv6_works_between_members() {
    let hull = Hull::shared();
    let net = Net::new(&hull, "six-net", &["--ipv6", "--subnet", "fd00:77::/64"]);
    let script = "\
import socket
s = socket.create_server(('::', 7000), family=socket.AF_INET6)
print('ready', flush=True)
while True:
    c, _ = s.accept()
    c.sendall(b'six'); c.close()
";
    let options = ["--network", net.name, "--name", "six-server"];
    let rest = ["--ip6", "fd00:77::10", "python", "python3", "-c", script];
    let server = hull.background(&[&options[..], &rest].concat());
    ready(&hull, &server);
    assert_eq!(
        ask(&hull, &["--network", net.name], "fd00:77::10", "7000"),
        "six"
    );
    let lookup =
        "import socket; print(socket.getaddrinfo('six-server', 1, socket.AF_INET6)[0][4][0])";
    let out = hull.ok(&[
        "run",
        "--rm",
        "--network",
        net.name,
        "python",
        "python3",
        "-c",
        lookup,
    ]);
    assert_eq!(out, "fd00:77::10");
}

#[test]
fn network_commands_are_dockers() {
    let hull = Hull::shared();
    let net = Net::new(
        &hull,
        "listed-net",
        &["--label", "team=blue", "--subnet", "10.78.0.0/16"],
    );
    let list = hull.ok(&[
        "network",
        "ls",
        "--format",
        "{{.Name}} {{.Driver}} {{.Scope}}",
    ]);
    assert!(list.contains("bridge bridge local") && list.contains("listed-net bridge local"));
    let table = hull.ok(&["network", "ls", "--filter", "label=team=blue"]);
    assert!(
        table.starts_with("NETWORK ID     NAME         DRIVER    SCOPE\n"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 2, "{table}");
    let container = hull.ok(&[
        "create",
        "--network",
        net.name,
        "--ip",
        "10.78.1.2",
        "busybox",
    ]);
    let config = hull.ok(&[
        "network",
        "inspect",
        "-f",
        "{{json .IPAM.Config}}",
        net.name,
    ]);
    assert_eq!(
        config,
        r#"[{"Subnet":"10.78.0.0/16","Gateway":"10.78.0.1"}]"#
    );
    // Addresses belong to one container, also while it does not run.
    let again = [
        "run",
        "--rm",
        "--network",
        net.name,
        "--ip",
        "10.78.1.2",
        "busybox",
        "true",
    ];
    assert!(hull.fails(&again, 125).contains("Address already in use"));
    let elsewhere = [
        "run",
        "--rm",
        "--network",
        net.name,
        "--ip",
        "10.79.0.2",
        "busybox",
        "true",
    ];
    assert!(
        hull.fails(&elsewhere, 125)
            .contains("does not belong to the subnet")
    );
    let default = ["run", "--rm", "--ip", "172.17.0.9", "busybox", "true"];
    assert!(
        hull.fails(&default, 125)
            .contains("user defined networks only")
    );
    assert!(
        hull.fails(&["network", "rm", net.name], 1)
            .contains("has containers")
    );
    assert!(
        hull.fails(&["network", "create", net.name], 1)
            .contains("already exists")
    );
    let overlap = [
        "network",
        "create",
        "--subnet",
        "10.78.9.0/24",
        "overlapping",
    ];
    assert!(hull.fails(&overlap, 1).contains("Pool overlaps"));
    assert!(
        hull.fails(&["network", "rm", "bridge"], 1)
            .contains("pre-defined")
    );
    assert!(
        hull.fails(&["network", "inspect", "nope"], 1)
            .contains("network nope not found")
    );
    hull.ok(&["rm", &container]);
    assert_eq!(hull.ok(&["network", "rm", net.name]), net.name);
    for network in ["host", "container:x"] {
        let error = hull.fails(
            &["run", "--rm", "--network", network, "busybox", "true"],
            125,
        );
        assert!(error.contains("is not possible"), "{error}");
    }
}

#[test]
fn unused_networks_are_pruned() {
    let hull = Hull::fresh();
    hull.ok(&["network", "create", "unused"]);
    hull.ok(&["network", "create", "used"]);
    hull.ok(&["create", "-q", "--network", "used", "busybox"]);
    assert_eq!(
        hull.ok(&["network", "prune", "-f"]),
        "Deleted Networks:\nunused"
    );
    assert_eq!(
        hull.ok(&["network", "ls", "--format", "{{.Name}}"]),
        "bridge\nused"
    );
}

/// The processes that hold the networks of a state directory, with their pasta.
fn holders(hull: &Hull) -> Vec<i32> {
    let root = hull.root().display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let (line, environment) = (read("cmdline"), read("environ"));
        let has = |bytes: &[u8], text: &str| String::from_utf8_lossy(bytes).contains(text);
        let ours =
            has(&line, "__hold-networks") && has(&environment, &format!("HULL_ROOT={root}\0"));
        if ours || has(&line, &format!("{root}/run/network/namespace/net")) {
            found.push(pid);
        }
    }
    found.retain(|pid| alive(*pid));
    found
}

#[test]
fn nothing_is_left_after_the_last_container() {
    let hull = Hull::fresh();
    hull.ok(&["run", "--rm", "-q", "busybox", "true"]);
    eventually("the holder and pasta are gone", || {
        holders(&hull).is_empty()
    });
    assert!(!hull.root().join("run/network/holder").exists());
    // And the next one finds everything again.
    assert_eq!(
        hull.ok(&["run", "--rm", "busybox", "echo", "again"]),
        "again"
    );
}

#[test]
fn a_killed_holder_is_replaced() {
    let hull = Hull::fresh();
    let server = greeter(
        &hull,
        &["-q", "--name", "survivor", "-p", "127.0.0.1::7000"],
        "still here",
    );
    let port = hull.ok(&["port", "survivor", "7000"]);
    let greeting = || {
        let mut text = String::new();
        let read = TcpStream::connect(&port).and_then(|mut s| s.read_to_string(&mut text));
        read.is_ok().then_some(text)
    };
    assert_eq!(greeting().as_deref(), Some("still here"));
    let before = holders(&hull);
    assert_eq!(before.len(), 2, "a holder and its pasta");
    for pid in &before {
        // Both at once: who of them died first is not to matter.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::SIGKILL);
    }
    eventually("the published port answers again", || {
        greeting().as_deref() == Some("still here")
    });
    assert!(before.iter().all(|pid| !alive(*pid)), "{before:?}");
    assert_eq!(hull.field("survivor", "{{.State.Status}}"), "running");
    // Others start beside it and reach it.
    let address = hull.field(&server.id, "{{.NetworkSettings.IPAddress}}");
    assert_eq!(ask(&hull, &[], &address, "7000"), "still here");
}
