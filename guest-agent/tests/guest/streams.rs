//! Bytes in bulk, many at once, and peers that misbehave.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use guest_agent::protocol::{
    ErrorKind, FrameKind, Request, Response, VERSION, encode_header, read_frame, write_frame,
};

use crate::harness::{Guest, possible};
use crate::talk::{
    close_stdin, exec, is_closed, read_until, receive, send, shell, start, stream_out, write_stdin,
};

const NOTHING: &dyn Fn(&std::path::Path) = &|_| {};

#[test]
fn much_passes_through_both_ways_intact() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let mut request = start(&["/bin/cat"]);
    request.stdio.stdin = true;
    let mut main = guest.start(request);
    let total: usize = 256 << 20;
    let mut writer = main.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let mut sent = 0;
        let mut piece = 1;
        while sent < total {
            let len = piece.min(total - sent);
            let bytes: Vec<u8> = (sent..sent + len).map(byte).collect();
            write_stdin(&mut writer, &bytes);
            sent += len;
            // All sizes up to the largest that a frame may have.
            piece = (piece * 3 + 1) % (1 << 20) + 1;
        }
        close_stdin(&mut writer);
    });
    let mut seen = 0;
    while seen < total {
        let frame = read_frame(&mut main).unwrap().unwrap();
        assert_eq!(frame.kind, FrameKind::Stdout);
        assert!(
            frame
                .payload
                .iter()
                .enumerate()
                .all(|(i, b)| *b == byte(seen + i))
        );
        seen += frame.payload.len();
    }
    sender.join().unwrap();
    assert_eq!(stream_out(main).exit.code, 0);
}

fn byte(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

#[test]
fn two_hundred_execs_at_once_are_all_answered() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let _main = guest.idle();
    let mut streams: Vec<UnixStream> = (0..200).map(|_| guest.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut request = exec(&format!("e{number}"), "read x; echo $x; exit $((x % 100))");
        request.stdio.stdin = true;
        send(stream, &Request::Exec(Box::new(request)));
        // What follows the request in the same breath is not lost.
        write_stdin(stream, format!("{number}\n").as_bytes());
    }
    for (number, mut stream) in streams.into_iter().enumerate() {
        let response = receive(&mut stream);
        assert!(
            matches!(response, Response::Ok { pid, .. } if pid > 1),
            "{response:?}"
        );
        let outcome = stream_out(stream);
        assert_eq!(outcome.text(), format!("{number}\n"));
        assert_eq!(outcome.exit.code as usize, number % 100);
    }
}

#[test]
fn a_process_that_does_not_read_holds_up_nobody() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let _main = guest.idle();
    let mut request = exec("deaf", "sleep 1000");
    request.stdio.stdin = true;
    let mut deaf = guest.begin(request);
    deaf.set_nonblocking(true).unwrap();
    // Fill everything between here and the process.
    let frame = [
        &encode_header(FrameKind::Stdin, 1 << 20)[..],
        &vec![0; 1 << 20],
    ]
    .concat();
    let mut taken = 0;
    let mut full = 0;
    while full < 20 {
        match deaf.write(&frame[taken % frame.len()..]) {
            Ok(len) => (taken, full) = (taken + len, 0),
            Err(_) => {
                full += 1;
                assert_eq!(guest.exec("other", "echo hello").text(), "hello\n");
            }
        }
        assert!(taken < 64 << 20, "the agent must not take without end");
    }
    guest.signal("deaf", 9);
    deaf.set_nonblocking(false).unwrap();
    let _ = deaf.shutdown(std::net::Shutdown::Write);
    assert_eq!(stream_out(deaf).exit.code, 137);
}

#[test]
fn a_host_that_does_not_read_stops_the_process_and_nobody_else() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let _main = guest.idle();
    let script =
        "i=0; while [ $i -lt 3000 ]; do head -c 4096 /dev/zero; i=$((i+1)); echo $i > /count; done";
    let slow = guest.begin(exec("slow", script));
    // The count stands still when nothing takes the output any more.
    // (It is empty for a moment while it is written.)
    let still =
        "count() { c=; while [ -z \"$c\" ]; do c=$(cat /count 2>/dev/null); done; echo $c; };
        a=; b=$(count); while [ \"$a\" != $b ]; do a=$b; sleep 0.3; b=$(count); done; echo $b";
    let count: u32 = guest.exec("look", still).text().trim().parse().unwrap();
    assert!(count < 3000, "{count}");
    let outcome = stream_out(slow);
    assert_eq!((outcome.stdout.len(), outcome.exit.code), (3000 * 4096, 0));
}

#[test]
fn a_process_goes_on_when_its_connection_is_gone() {
    if !possible() {
        return;
    }
    let guest = Guest::new(NOTHING);
    let mut request = shell(
        "cat; echo eof; i=0; while [ $i -lt 200 ]; do head -c 65536 /dev/zero; i=$((i+1)); done; touch /done; exec sleep 1000",
    );
    request.stdio.stdin = true;
    let mut main = guest.start(request);
    write_stdin(&mut main, b"hello");
    read_until(&mut main, "hello");
    drop(main);
    let seen = guest.exec(
        "look",
        "while ! [ -e /done ]; do sleep 0.05; done; echo seen",
    );
    assert_eq!(seen.text(), "seen\n");
}

#[test]
fn garbage_closes_the_connection_and_nothing_else() {
    if !possible() {
        return;
    }
    let mut guest = Guest::new(NOTHING);
    let garbage: [&[u8]; 7] = [
        b"",
        b"GET / HTTP/1.0\r\n\r\n",
        &[0; 64],
        &[0xff; 64],
        &encode_header(FrameKind::Stdin, 4),
        &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &[1, 0, 0, 0, 100, 0, 0, 0, b'{'],
    ];
    for bytes in garbage {
        let mut stream = guest.connect();
        stream.write_all(bytes).unwrap();
        assert!(is_closed(stream), "{bytes:?}");
    }
    let request =
        |version: u32, request: &str| format!("{{\"version\":{version},\"request\":{request}}}");
    for (text, kind) in [
        (String::new(), ErrorKind::Invalid),
        ("{}".to_owned(), ErrorKind::Invalid),
        ("nonsense".to_owned(), ErrorKind::Invalid),
        (request(VERSION, r#"{"start":{}}"#), ErrorKind::Invalid),
        (request(VERSION, r#""dance""#), ErrorKind::Invalid),
        (request(VERSION - 1, r#""shutdown""#), ErrorKind::Version),
        (request(VERSION + 5, r#"{"new":1}"#), ErrorKind::Version),
    ] {
        let mut stream = guest.connect();
        write_frame(&mut stream, FrameKind::Request, text.as_bytes()).unwrap();
        let response = receive(&mut stream);
        assert!(
            matches!(response, Response::Error(e) if e.kind == kind),
            "{text}"
        );
    }
    let main = guest.idle();
    // A frame that has no place here ends the streams, not the process.
    let mut talk = guest.begin(exec("talk", "touch /began; sleep 1000"));
    // The agent may close at the header already.
    let _ = write_frame(&mut talk, FrameKind::Request, b"{}");
    let mut rest = Vec::new();
    let _ = talk.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    assert_eq!(
        guest
            .exec(
                "look",
                "while ! [ -e /began ]; do sleep 0.05; done; ps | grep -c 'sleep 100[0]'"
            )
            .text(),
        "3\n"
    );
    assert!(guest.agent_is_alive());
    drop(main);
}

#[test]
fn more_connections_than_can_be_are_refused() {
    if !possible() {
        return;
    }
    // An agent that may open a hundred descriptors.
    let guest = Guest::with_open_files(100);
    let _main = guest.idle();
    let mut open: Vec<UnixStream> = (0..200).map(|_| guest.connect()).collect();
    // The agent takes connections in order and has no room for the last one, sooner or later.
    let mut last = open.pop().unwrap();
    assert_eq!(last.read(&mut [0]).unwrap(), 0);
    drop(open);
    // It may see the new connection before it has seen the end of all the others.
    let answer = (0..100).find_map(|_| {
        let mut stream = guest.connect();
        send(
            &mut stream,
            &Request::Exec(Box::new(exec("after", "echo after"))),
        );
        let frame = read_frame(&mut stream).ok()??;
        assert_eq!(frame.kind, FrameKind::Response);
        Some(stream_out(stream).text())
    });
    assert_eq!(answer.as_deref(), Some("after\n"));
}
