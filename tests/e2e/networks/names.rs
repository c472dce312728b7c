//! Members of a network find each other.

use super::*;

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
