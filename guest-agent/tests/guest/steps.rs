//! Several containers one after the other, each on top of what the last one wrote.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use guest_agent::protocol::{
    FrameKind, Layering, ProvidedFile, ProvidedSocket, Request, Response, Storage, Task, Tree,
    TreeSource, Work, read_frame, write_frame,
};

use crate::harness::{Guest, possible};
use crate::talk::{shell, stream_out, writable};

fn work(task: Task) -> Request {
    let storage = Storage::default();
    Request::Work(Box::new(Work { storage, task }))
}

/// Names, times and contents of what the writable layer changes.
fn layer(guest: &Guest, stubs: &[&str]) -> Vec<String> {
    let how = Layering {
        latest: Some(1000),
        stubs: stubs.iter().map(|&stub| stub.to_owned()).collect(),
    };
    let (stream, response) = guest.request(work(Task::Layer(how)));
    assert!(matches!(response, Response::Ok { .. }), "{response:?}");
    let outcome = stream_out(stream);
    assert_eq!(
        (outcome.exit.code, outcome.stderr.as_slice()),
        (0, &b""[..])
    );
    let mut archive = tar::Archive::new(outcome.stdout.as_slice());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mtime = entry.header().mtime().unwrap();
        format!("{path} {mtime} {}", content.trim())
    });
    entries.collect()
}

fn seal(guest: &Guest) {
    let (_, response) = guest.request(Request::Seal);
    assert!(matches!(response, Response::Ok { .. }), "{response:?}");
}

#[test]
fn each_step_is_a_layer_of_its_own() {
    if !possible() {
        return;
    }
    let fill = |root: &Path| {
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/old"), "old").unwrap();
        fs::write(root.join("gone"), "x").unwrap();
    };
    let guest = Guest::with_layers(&[&fill], true);
    let mut first =
        shell("echo 1 > /one; rm /gone; rm -r /d; mkdir /d; echo n > /d/new; sleep 1000 &");
    first.storage.writable = Some(writable());
    guest.run(first);
    assert_eq!(
        layer(&guest, &[]),
        [
            "d/ 1000 ",
            "d/.wh..wh..opq 0 ",
            "d/new 1000 n",
            ".wh.gone 0 ",
            "one 1000 1"
        ]
    );
    seal(&guest);
    let second = "cat /one /d/*; ls /gone; stat -c %Y /one; set -- /proc/[0-9]*; echo $#; echo 2 > /two; rm /one";
    let outcome = guest.run(shell(second));
    // The first step's processes are gone, and it stands as its layer has it.
    assert_eq!(outcome.text(), "1\nn\n1000\n1\n");
    assert_eq!(layer(&guest, &[]), [".wh.one 0 ", "two 1000 2"]);
    // A third one needs another seal.
    assert!(guest.refused(shell("true")).message.contains("already"));
    seal(&guest);
    let outcome = guest.run(shell("cat /two; ls /one; true"));
    assert_eq!(outcome.text(), "2\n");
    assert_eq!(layer(&guest, &[]), [""; 0]);
}

#[test]
fn what_is_mounted_leaves_nothing() {
    if !possible() {
        return;
    }
    let guest = Guest::with_layers(&[&|_| {}], true);
    // The container's files are put together before it starts.
    let task = Task::Fill {
        name: "t1".to_owned(),
    };
    let storage = Storage {
        writable: Some(writable()),
        ..shell("").storage
    };
    let (mut stream, response) = guest.request(Request::Work(Box::new(Work { storage, task })));
    assert!(matches!(response, Response::Ok { .. }), "{response:?}");
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(4);
    header.set_mode(0o640);
    header.set_mtime(5);
    header.set_uid(7);
    header.set_gid(8);
    builder
        .append_data(&mut header, "sub/file", &b"tree"[..])
        .unwrap();
    let bytes = builder.into_inner().unwrap();
    write_frame(&mut stream, FrameKind::Stdin, &bytes).unwrap();
    write_frame(&mut stream, FrameKind::StdinClose, &[]).unwrap();
    assert_eq!(stream_out(stream).exit.code, 0);

    let mut request = shell(
        "cat /a/b/file; stat -c '%a %u %g %Y' /a/b/file; echo x > /a/b/file; echo y > /tmp/t/file;
         cat /tmp/t/file; od -An -tx1 /run/secrets/s; stat -c '%a %u %g' /run/secrets/s; ls /x/y; echo kept > /kept",
    );
    let tree = |destination: &str, read_only| Tree {
        source: TreeSource {
            name: "t1".to_owned(),
            subpath: "/sub".to_owned(),
        },
        destination: destination.to_owned(),
        read_only,
    };
    request.storage.trees = vec![tree("/a/b", true), tree("/tmp/t", false)];
    request.files.push(ProvidedFile {
        path: "/run/secrets/s".to_owned(),
        content: b"hidden\xff\0".to_vec(),
        mode: 0o400,
        uid: 7,
        gid: 8,
    });
    let outcome = guest.run(request);
    assert_eq!(
        outcome.text(),
        "tree640 7 8 5\ny\n 68 69 64 64 65 6e ff 00\n400 7 8\n"
    );
    let errors = String::from_utf8(outcome.stderr).unwrap();
    assert!(errors.contains("Read-only file system"), "{errors}");
    let found = layer(&guest, &["/a/b", "/tmp/t", "/run/secrets/s"]);
    assert_eq!(found, ["kept 1000 kept", "tmp/ 1000 "]);
}

#[test]
fn a_socket_leads_to_the_host_as_often_as_it_wants() {
    if !possible() {
        return;
    }
    let guest = Guest::with_layers(&[&|_| {}], true);
    let mut request = shell("stat -c '%F %a %u %g' /run/s");
    request.storage.writable = Some(writable());
    request.sockets.push(ProvidedSocket {
        name: "one".to_owned(),
        path: "/run/s".to_owned(),
        mode: 0o600,
        uid: 0,
        gid: 7,
    });
    assert_eq!(guest.run(request).text(), "socket 600 0 7\n");
    let relay = |socket: &str| {
        let socket = socket.to_owned();
        guest.request(work(Task::Relay { socket }))
    };
    for question in ["one", "two"] {
        let (mut relay, response) = relay("one");
        assert!(matches!(response, Response::Ok { .. }), "{response:?}");
        let mut client = UnixStream::connect(guest.inside("/sockets/one")).unwrap();
        client.write_all(question.as_bytes()).unwrap();
        let asked = read_frame(&mut relay).unwrap().unwrap();
        assert_eq!(asked.kind, FrameKind::Stdout);
        assert_eq!(asked.payload, question.as_bytes());
        write_frame(&mut relay, FrameKind::Stdin, b"answer").unwrap();
        write_frame(&mut relay, FrameKind::StdinClose, &[]).unwrap();
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "answer");
        assert_eq!(stream_out(relay).exit.code, 0);
    }
    // One that nobody connects to ends when the host says so, and holds nothing up then.
    let (mut idle, _) = relay("one");
    write_frame(&mut idle, FrameKind::StdinClose, &[]).unwrap();
    assert_eq!(stream_out(idle).exit.code, 0);
    assert_eq!(layer(&guest, &["/run/s"]), [""; 0]);
    seal(&guest);
    let (_, response) = relay("two");
    assert!(matches!(response, Response::Error(_)), "{response:?}");
}
