//! Clients that mean harm, or know no better.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use super::{Container, Server};
use crate::harness::{Hull, PATIENCE};

fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn nonsense_gets_dockers_errors() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
    };
    for (request, status) in [
        (get("/nothing"), "404"),
        (get("/v1.43/containers"), "404"),
        (get("/v1.99/info"), "400"),
        (get("/v1.10/info"), "400"),
        (get("/containers/%ff/json"), "400"),
        (get("/containers/no-such/json"), "404"),
        (get("/containers/json?filters=%7B"), "400"),
        (
            get("/containers/json?filters=%7B%22colour%22:%5B%22x%22%5D%7D"),
            "400",
        ),
        (get("/containers/json?limit=many"), "400"),
        (get("/swarm"), "503"),
        (get("/plugins/x/json"), "404"),
        (post("/grpc", ""), "501"),
        (post("/containers/create", "{"), "400"),
        (post("/containers/create", "[]"), "400"),
        (post("/containers/create", "null"), "400"),
        (
            post("/containers/create", r#"{"Image":"busybox","Env":5}"#),
            "400",
        ),
        (
            post(
                "/containers/create",
                r#"{"Image":"busybox","HostConfig":{"NetworkMode":"host"}}"#,
            ),
            "400",
        ),
        (
            post(
                "/containers/create",
                r#"{"Image":"busybox","HostConfig":{"Binds":["/:/"]}}"#,
            ),
            "400",
        ),
        (
            post(
                "/containers/create",
                r#"{"Image":"busybox","HostConfig":{"Memory":1}}"#,
            ),
            "400",
        ),
        (
            post(
                "/containers/create",
                r#"{"Image":"busybox","HostConfig":{"Devices":[{}]}}"#,
            ),
            "400",
        ),
        (
            post("/containers/create", r#"{"Image":"no/such:image"}"#),
            "404",
        ),
        (
            post("/containers/create?platform=x", r#"{"Image":"busybox"}"#),
            "400",
        ),
        (post("/containers/no-such/start", ""), "404"),
        (post("/exec/no-such/start", "{}"), "404"),
    ] {
        let answer = server.raw(&request);
        let shown = String::from_utf8_lossy(&request).into_owned();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{shown}: {answer}"
        );
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let body: serde_json::Value =
            serde_json::from_str(body).unwrap_or_else(|e| panic!("{shown}: {e}: {answer}"));
        assert!(
            body["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{shown}: {answer}"
        );
    }
    assert!(server.ok(&["version"]).contains("hull"));
}

/// A client that is refused before it has sent everything would see a broken connection instead
/// of the reason.
#[test]
fn what_a_refused_client_still_sends_is_taken() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut answer = || {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(answers.read_line(&mut head).unwrap() > 0, "{head}");
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            (name.eq_ignore_ascii_case("content-length")).then(|| value.parse::<u64>().unwrap())
        });
        let mut body = String::new();
        let mut rest = answers.by_ref().take(length.unwrap_or_default());
        rest.read_to_string(&mut body).unwrap();
        (head, body)
    };
    let size = 20 << 20;
    write!(
        stream,
        "POST /build?version=2 HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    )
    .unwrap();
    let (head, body) = answer();
    assert!(head.starts_with("HTTP/1.1 501"), "{head}");
    assert!(body.contains("BuildKit"), "{body}");
    stream.write_all(&vec![0; size]).unwrap();
    write!(stream, "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(answer().0.starts_with("HTTP/1.1 200"));
}

#[test]
fn what_is_too_large_or_no_http_is_refused() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let head = "POST /containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let mut huge = format!("{head}Content-Length: 8000000\r\n\r\n").into_bytes();
    huge.resize(huge.len() + 8_000_000, b' ');
    assert!(server.raw(&huge).starts_with("HTTP/1.1 400"));
    let mut headers = format!("{head}X: ").into_bytes();
    headers.resize(headers.len() + 1_000_000, b'x');
    let answer = server.raw(&headers);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    for nonsense in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = server.raw(nonsense);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    assert!(server.ok(&["version"]).contains("hull"));
}

#[test]
fn many_idle_connections_do_not_keep_others_out() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let idle: Vec<UnixStream> = (0..800)
        .map(|_| {
            let mut stream = UnixStream::connect(server.socket()).unwrap();
            stream.write_all(b"GET /_pi").unwrap();
            stream
        })
        .collect();
    assert!(server.ok(&["version"]).contains("hull"));
    drop(idle);
}

#[test]
fn archives_do_not_leave_their_directory() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let name = "serve-tar";
    let _removed = Container::named(&hull, name);
    server.ok(&["run", "-d", "--name", name, "busybox", "sleep", "1000"]);
    for path in ["../../outside", "/outside", "a/../../../outside"] {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(1);
        header.set_mode(0o644);
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        archive.extend([b'x'; 512]);
        archive.extend([0; 1024]);
        let mut request = format!(
            "PUT /containers/{name}/archive?path=/tmp HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            archive.len()
        )
        .into_bytes();
        request.extend(archive);
        let answer = server.raw(&request);
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        let found = server.run(&["exec", name, "ls", "/outside", "/tmp/../../outside"]);
        assert_ne!(found.code, 0, "{path}: {found:#?}");
    }
    let garbage = format!(
        "PUT /containers/{name}/archive?path=/tmp HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1024\r\n\r\n{}",
        "x".repeat(1024)
    );
    assert!(server.raw(garbage.as_bytes()).starts_with("HTTP/1.1 500"));
    assert_eq!(server.ok(&["exec", name, "echo", "alive"]), "alive");
}

#[test]
fn a_request_that_is_broken_off_ends_there() {
    let hull = Hull::shared();
    let server = Server::new(&hull);
    for request in [
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        "PUT /containers/x/archive?path=/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ] {
        let mut stream = UnixStream::connect(server.socket()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    assert!(server.ok(&["version"]).contains("hull"));
}
