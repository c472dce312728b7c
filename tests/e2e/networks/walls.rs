//! What no member reaches.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::process::Command;

use crate::leftovers::holders;

use super::*;

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
    let hull = Hull::fresh();
    // A machine beyond this one: another network namespace.
    let outside = Outside::new();
    let keeper = hull.background(&["-q", "busybox", "sleep", "1000"]);
    assert_eq!(ask(&hull, &["-q"], &outside.address, "7000"), "far away");
    // The way there is found again when the program that makes it has died.
    for pid in holders(&hull) {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        if name.starts_with("pasta") {
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
        }
    }
    eventually("the outside is reached again", || {
        ask(&hull, &[], &outside.address, "7000") == "far away"
    });
    assert_eq!(holders(&hull).len(), 2, "a holder and its pasta");
    let six = Net::new(
        &hull,
        "six-out-net",
        &["--ipv6", "--subnet", "fd00:7777::/64"],
    );
    let options = ["--network", six.name];
    assert_eq!(ask(&hull, &options, Outside::ADDRESS6, "7000"), "far away");
    drop((six, keeper));
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
    const ADDRESS6: &'static str = "fd00:1982::2";

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
        assert!(ip("address add fd00:1982::1/64 dev hull-outside nodad"));
        assert!(ip(&format!(
            "-n {name} address add {}/64 dev eth0 nodad",
            Self::ADDRESS6
        )));
        assert!(ip(&format!("-n {name} link set eth0 up")));
        let both = "('', 7000), family=socket.AF_INET6, dualstack_ipv6=True";
        let greeter = GREETER.replace("('', 7000)", both);
        let mut server = Command::new("ip")
            .args([
                "netns", "exec", name, "python3", "-u", "-c", &greeter, "far away",
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
