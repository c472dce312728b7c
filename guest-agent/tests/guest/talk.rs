//! Requests as docker's defaults make them, and the host's side of a conversation.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use guest_agent::protocol::runtime::Spec;
use guest_agent::protocol::{
    BlockDevice, Envelope, Exec, Frame, FrameKind, Request, Response, Start, Stdio, Storage,
    VERSION, WindowSize, read_frame, write_frame,
};

use crate::harness::Outcome;

/// A tree with busybox under all its names, and accounts.
pub fn busybox(root: &Path) {
    for dir in ["bin", "etc", "tmp", "root", "home/app"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines() {
        if applet != "busybox" {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nwheel:x:10:root\napp:x:1001:\nvideo:x:44:app\n",
    )
    .unwrap();
}

/// A start of `sh -c script` with docker's defaults.
pub fn shell(script: &str) -> Start {
    start(&["/bin/sh", "-c", script])
}

/// A start of `arguments` with docker's defaults.
pub fn start(arguments: &[&str]) -> Start {
    let mut spec: Spec = serde_json::from_str(include_str!("spec.json")).unwrap();
    let process = spec.process.as_mut().unwrap();
    process.args = arguments.iter().map(|a| (*a).to_owned()).collect();
    Start {
        storage: Storage {
            layers: vec![layer(1), layer(2)],
            ..Storage::default()
        },
        spec,
        user: "0".to_owned(),
        groups: Vec::new(),
        hardware: Vec::new(),
        network: Vec::new(),
        files: Vec::new(),
        sockets: Vec::new(),
        init: false,
        architecture: if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        }
        .to_owned(),
        stdio: Stdio::default(),
        clock_ns: 0,
        // The kernel under these tests is the machine's own: its pool is not theirs to credit.
        entropy: Vec::new(),
    }
}

/// An exec of `sh -c script`.
pub fn exec(id: &str, script: &str) -> Exec {
    let start = shell(script);
    Exec {
        id: id.to_owned(),
        process: start.spec.process.unwrap(),
        user: start.user,
        groups: Vec::new(),
        stdio: Stdio::default(),
    }
}

/// The layer with this number.
pub fn layer(number: u32) -> BlockDevice {
    BlockDevice {
        serial: "layers".to_owned(),
        partition: Some(number),
    }
}

/// The writable disk.
pub fn writable() -> BlockDevice {
    BlockDevice {
        serial: "writable".to_owned(),
        partition: None,
    }
}

/// A terminal of this size with input.
pub fn terminal(rows: u16, columns: u16) -> Stdio {
    Stdio {
        stdin: true,
        terminal: Some(WindowSize { rows, columns }),
    }
}

pub fn send(stream: &mut UnixStream, request: &Request) {
    let envelope = Envelope {
        version: VERSION,
        request: request.clone(),
    };
    let payload = serde_json::to_vec(&envelope).unwrap();
    // A refused connection fails here or when the answer is read.
    let _ = write_frame(stream, FrameKind::Request, &payload);
}

pub fn receive(stream: &mut UnixStream) -> Response {
    let frame = read_frame(stream)
        .unwrap()
        .expect("connection closed without an answer");
    assert_eq!(frame.kind, FrameKind::Response);
    serde_json::from_slice(&frame.payload).unwrap()
}

/// Reads everything that a process says, to its end.
pub fn stream_out(mut stream: UnixStream) -> Outcome {
    let mut outcome = (Vec::new(), Vec::new());
    loop {
        let Frame { kind, payload } = read_frame(&mut stream).unwrap().expect("no exit frame");
        match kind {
            FrameKind::Stdout => outcome.0.extend(payload),
            FrameKind::Stderr => outcome.1.extend(payload),
            FrameKind::Exit => {
                let exit = serde_json::from_slice(&payload).unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap();
                assert_eq!(rest, b"");
                return Outcome {
                    stdout: outcome.0,
                    stderr: outcome.1,
                    exit,
                };
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Reads frames until the output contains `text`.
pub fn read_until(stream: &mut UnixStream, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let Ok(Some(frame)) = read_frame(stream) else {
            panic!("nothing more after {seen:?}, expected {text:?}");
        };
        assert_ne!(frame.kind, FrameKind::Exit, "ended after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&frame.payload));
    }
    seen
}

/// Sends bytes to a process's standard input.
pub fn write_stdin(stream: &mut UnixStream, bytes: &[u8]) {
    write_frame(stream, FrameKind::Stdin, bytes).unwrap();
}

/// Ends a process's standard input.
pub fn close_stdin(stream: &mut UnixStream) {
    write_frame(stream, FrameKind::StdinClose, &[]).unwrap();
    stream.flush().unwrap();
}

/// Whether the agent closes the connection without a word.
pub fn is_closed(mut stream: UnixStream) -> bool {
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).is_ok_and(|_| rest.is_empty()) || rest.is_empty()
}
