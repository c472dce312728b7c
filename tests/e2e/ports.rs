//! Published ports: what arrives at the host's ports reaches containers, whole.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Hull, PATIENCE, Running, eventually};

fn python<'a>(hull: &'a Hull, options: &[&str], script: &str) -> Running<'a> {
    let running = hull.background(&[options, &["python", "python3", "-uc", script]].concat());
    eventually("the server is ready", || {
        hull.ok(&["logs", &running.id]).contains("ready")
    });
    running
}

/// Where the host offers the container's port 7000.
fn place(hull: &Hull, id: &str) -> String {
    hull.ok(&["port", id, "7000"])
        .lines()
        .next()
        .unwrap()
        .to_owned()
}

fn connect(place: &str) -> TcpStream {
    let stream = TcpStream::connect(place).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

const ECHO: &str = "\
import socket, threading
s = socket.create_server(('', 7000), backlog=1024)
def serve(c):
    with c:
        while b := c.recv(65536):
            c.sendall(b)
print('ready')
while True:
    threading.Thread(target=serve, args=(s.accept()[0],)).start()
";

#[test]
fn a_web_site_in_a_container_is_fetched_from_the_host() {
    let hull = Hull::shared();
    let site = hull.root().join("site-of-a-test");
    std::fs::create_dir_all(&site).unwrap();
    std::fs::write(site.join("index.html"), "<h1>hello from a guest</h1>").unwrap();
    let volume = format!("{}:/site:ro", site.display());
    let running = hull.background(&[
        "-p",
        "127.0.0.1::8000",
        "-v",
        &volume,
        "-w",
        "/site",
        "python",
        "python3",
        "-m",
        "http.server",
        "8000",
    ]);
    let place = hull.ok(&["port", &running.id, "8000/tcp"]);
    let fetch = || {
        let mut stream = TcpStream::connect(&place).ok()?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.ends_with("<h1>hello from a guest</h1>")
            .then_some(text)
    };
    eventually("the site is served", || fetch().is_some());
    let ports = hull.field(&running.id, "{{json .NetworkSettings.Ports}}");
    let port = place.rsplit(':').next().unwrap();
    let wanted = format!(r#"{{"8000/tcp":[{{"HostIp":"127.0.0.1","HostPort":"{port}"}}]}}"#);
    assert_eq!(ports, wanted);
    let column = hull.ok(&[
        "ps",
        "--filter",
        &format!("id={}", running.id),
        "--format",
        "{{.Ports}}",
    ]);
    assert_eq!(column, format!("127.0.0.1:{port}->8000/tcp"));
}

#[test]
fn a_thousand_connections_arrive_intact() {
    let hull = Hull::shared();
    let server = python(&hull, &["-p", "127.0.0.1::7000"], ECHO);
    let place = place(&hull, &server.id);
    const AT_ONCE: usize = 50;
    const EACH: usize = 20;
    let good = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (place, good) = (&place, &good);
            scope.spawn(move || {
                for round in 0..EACH {
                    let mut stream = connect(place);
                    let text = format!("connection {worker} {round} ").repeat(100);
                    stream.write_all(text.as_bytes()).unwrap();
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                    let mut back = String::new();
                    stream.read_to_string(&mut back).unwrap();
                    assert_eq!(back, text);
                    good.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(good.into_inner(), AT_ONCE * EACH);
}

#[test]
fn connections_at_the_same_time_are_all_served() {
    let hull = Hull::shared();
    let server = python(&hull, &["-p", "127.0.0.1::7000"], ECHO);
    let place = place(&hull, &server.id);
    let mut streams: Vec<TcpStream> = (0..300).map(|_| connect(&place)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&(number as u64).to_be_bytes()).unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate().rev() {
        let mut back = [0; 8];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(u64::from_be_bytes(back), number as u64);
    }
}

#[test]
fn a_gibibyte_arrives_intact_both_ways() {
    const BLOCK: usize = 1 << 20;
    const BLOCKS: u64 = 1024;
    let hull = Hull::shared();
    // Every block is its own number, so that one that is lost, doubled or moved is seen.
    let script = "\
import socket, struct
block = lambda i: struct.pack('>Q', i) * 131072
s = socket.create_server(('', 7000))
print('ready')
c, _ = s.accept()
for i in range(1024):
    c.sendall(block(i))
f = c.makefile('rb')
wrong = sum(f.read(1 << 20) != block(i) for i in range(1024))
c.sendall(b'%d wrong, then %r' % (wrong, f.read(1)))
c.close()
";
    let server = python(&hull, &["-p", "127.0.0.1::7000"], script);
    let mut stream = connect(&place(&hull, &server.id));
    let block = |number: u64| number.to_be_bytes().repeat(BLOCK / 8);
    let mut buffer = vec![0; BLOCK];
    for number in 0..BLOCKS {
        stream.read_exact(&mut buffer).unwrap();
        assert!(buffer == block(number), "block {number}");
    }
    for number in 0..BLOCKS {
        stream.write_all(&block(number)).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut verdict = String::new();
    stream.read_to_string(&mut verdict).unwrap();
    assert_eq!(verdict, "0 wrong, then b''");
}

#[test]
fn datagrams_are_published_too() {
    let hull = Hull::shared();
    let script = "\
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 7000))
print('ready')
while True:
    b, a = s.recvfrom(65536)
    s.sendto(b[::-1], a)
";
    let server = python(&hull, &["-p", "127.0.0.1::7000/udp"], script);
    let place = hull.ok(&["port", &server.id, "7000/udp"]);
    for client in 0..5 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket.connect(&place).unwrap();
        let text: Vec<u8> = (0..1200).map(|n| (n * (client + 1) % 251) as u8).collect();
        let back: Vec<u8> = text.iter().rev().copied().collect();
        let mut buffer = [0; 2000];
        // A datagram may be lost; it is sent again until there is an answer.
        let mut answered = false;
        while !answered {
            socket.send(&text).unwrap();
            answered = socket
                .recv(&mut buffer)
                .is_ok_and(|len| buffer[..len] == back[..]);
        }
    }
}

#[test]
fn ports_are_chosen_ranged_and_refused() {
    let hull = Hull::shared();
    // Taken by somebody else.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let publish = format!("127.0.0.1:{port}:80");
    let error = hull.fails(
        &[
            "run",
            "--rm",
            "--name",
            "port-taken",
            "-p",
            &publish,
            "busybox",
            "true",
        ],
        125,
    );
    assert!(error.contains("port is already allocated"), "{error}");
    assert_eq!(hull.ok(&["ps", "-aq", "--filter", "name=port-taken"]), "");
    // A range of the host's ports: the first that is free.
    let range = format!("127.0.0.1:{port}-{}:80", port + 50);
    let moved = hull.background(&["-p", &range, "busybox", "sleep", "1000"]);
    assert_ne!(
        hull.ok(&["port", &moved.id, "80"]),
        format!("127.0.0.1:{port}")
    );
    // -P: every exposed port on another of the host's, both kinds of addresses.
    let all = hull.background(&[
        "-P",
        "--expose",
        "80",
        "--expose",
        "90-91/udp",
        "busybox",
        "sleep",
        "1000",
    ]);
    let lines = hull.ok(&["port", &all.id]);
    let ports: HashSet<&str> = lines
        .lines()
        .map(|line| line.rsplit(':').next().unwrap())
        .collect();
    assert_eq!((lines.lines().count(), ports.len()), (6, 3), "{lines}");
    for part in [
        "80/tcp -> 0.0.0.0:",
        "80/tcp -> [::]:",
        "90/udp -> ",
        "91/udp -> ",
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
    for (options, part) in [
        (["-p", "1-3:5-9"], "invalid ranges"),
        (["-p", "80:x"], "invalid port"),
        (["-p", "80/sctp"], "sctp"),
        (
            ["-p", "203.0.113.9:80:80"],
            "Bind for 203.0.113.9:80 failed",
        ),
    ] {
        let error = hull.fails(
            &[&["run", "--rm"], &options[..], &["busybox", "true"]].concat(),
            125,
        );
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_port_is_free_again_when_its_container_has_ended() {
    let hull = Hull::shared();
    let server = python(&hull, &["-p", "127.0.0.1::7000"], ECHO);
    let address = place(&hull, &server.id);
    let mut stream = connect(&address);
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    hull.ok(&["stop", "-t", "0", &server.id]);
    let free = TcpListener::bind(&address).unwrap();
    drop(free);
    assert_eq!(hull.ok(&["port", &server.id]), "");
    // Started again at once, and again, with a port that somebody may have had just now.
    let port = address.rsplit(':').next().unwrap();
    let publish = format!("127.0.0.1:{port}:7000");
    let again = python(&hull, &["-p", &publish], ECHO);
    for _ in 0..3 {
        hull.ok(&["restart", "-t", "0", &again.id]);
        assert_eq!(place(&hull, &again.id), address);
    }
}
