//! `hull ui` in a browser, and what it refuses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use super::browser::Browser;
use super::pages::HOSTILE;
use crate::build::Project;
use crate::harness::{Hull, PATIENCE};

/// A `hull ui` of the test's own.
struct Ui {
    process: Child,
    address: String,
}

impl Ui {
    fn start(hull: &Hull) -> Self {
        let mut process = hull
            .command(&["ui"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        Self {
            process,
            address: address.trim().to_owned(),
        }
    }

    fn place(&self) -> &str {
        let rest = self.address.strip_prefix("http://").unwrap();
        rest.split('/').next().unwrap()
    }

    fn token(&self) -> &str {
        self.address.split_once("token=").unwrap().1
    }

    /// The status of the answer to a request with these headers.
    fn status(&self, request: &str, headers: &[(&str, &str)]) -> u16 {
        let mut stream = TcpStream::connect(self.place()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        write!(
            stream,
            "{request} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Ui {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn only_the_page_with_its_token_is_answered() {
    let hull = Hull::shared();
    let ui = Ui::start(&hull);
    let (host, token) = (("Host", ui.place()), ("X-Hull-Token", ui.token()));
    assert!(ui.place().starts_with("127.0.0.1:"));
    let page = format!("GET /?token={}", ui.token());
    let list = "GET /api/docker/containers/json";
    assert_eq!(ui.status(&page, &[host]), 200);
    assert_eq!(ui.status(list, &[host, token]), 200);
    for (request, headers) in [
        ("GET /", vec![host]),
        ("GET /?token=wrong", vec![host]),
        (list, vec![host]),
        (list, vec![host, ("X-Hull-Token", "wrong")]),
        (list, vec![host, ("Cookie", ui.token())]),
        (list, vec![host, token, ("Origin", "http://evil.example")]),
        (list, vec![host, token, ("Origin", "null")]),
        (list, vec![("Host", "evil.example"), token]),
        (page.as_str(), vec![("Host", "evil.example")]),
        ("POST /api/terminal/x", vec![host, ("Content-Length", "0")]),
    ] {
        assert_eq!(ui.status(request, &headers), 403, "{request} {headers:?}");
    }
    // Nothing of the API that changes something is there.
    for request in [
        "POST /api/docker/containers/x/stop",
        "DELETE /api/docker/images/x",
        "GET /containers/json",
        "POST /api/docker/containers/create",
    ] {
        assert_eq!(
            ui.status(request, &[host, token, ("Content-Length", "0")]),
            404,
            "{request}"
        );
    }
}

#[test]
fn the_page_shows_containers_images_logs_and_gives_a_terminal() {
    // Where nobody else's containers come and go: a browser notes each that it is told to be gone.
    let hull = Hull::fresh();
    let label = format!("note={HOSTILE}");
    let script = "echo \"$1\"; trap 'exit 0' TERM; while :; do sleep 1; done";
    let running = hull.background(&[
        "--name", "ui-test", "--label", &label, "busybox", "sh", "-c", script, "x", HOSTILE,
    ]);
    hull.ok(&[
        "compare",
        "-q",
        "--runs",
        "1",
        "--instances",
        "0",
        "--only",
        "process",
        "busybox",
        "--",
        "echo",
        HOSTILE,
    ]);
    let file = HOSTILE.replace('/', "|");
    let dockerfile = format!(
        "FROM busybox\nRUN touch \"/tmp/{file}\"\nENV NOTE=\"{file}\"\nLABEL note=\"{file}\"\n"
    );
    Project::new(&dockerfile, &[]).build(&hull, &["-q", "-t", "ui-hostile"]);
    let hostile_file = serde_json::to_string(&file).unwrap();
    let ui = Ui::start(&hull);
    let browser = Browser::start();
    browser.open(&ui.address);
    let hostile = serde_json::to_string(HOSTILE).unwrap();
    let sees = |text: &str| browser.until(&format!("document.body.innerText.includes({text})"));
    sees(&hostile);
    sees("'ui-test'");
    browser.assert_readable("ui-containers");

    browser.until("document.querySelector('[data-container] .graph') !== null");
    browser.script("[...document.querySelectorAll('[data-container]')].find((b) => b.innerText.includes('ui-test')).click()");
    browser.until(&format!(
        "document.querySelector('.log').textContent.includes({hostile})"
    ));
    browser.until("/[0-9] %\\s+of a processor/.test(document.querySelector('.stats').innerText)");
    browser.until("document.querySelectorAll('.stats .curve').length === 2");
    browser.click(".shell");
    browser.until("document.querySelector('.terminal').textContent.includes('#')");
    browser.keys(".terminal", "echo $((6*7)) in $HOSTNAME\u{e007}");
    browser.until("document.querySelector('.terminal').textContent.split('\\n').some((line) => line.startsWith('42 in '))");
    // A program that uses the whole screen.
    browser.keys(".terminal", "vi /tmp/note\u{e007}");
    browser.until("document.querySelector('.terminal').textContent.includes('/tmp/note')");
    browser.keys(".terminal", "ifirst\u{e007}second\u{e00c}");
    // An escape with something right after it would be the key of a sequence.
    let commands =
        "document.querySelector('.terminal').textContent.includes('- /tmp/note [Modified]')";
    browser.until(commands);
    browser.keys(".terminal", "kOtop\u{e00c}");
    browser
        .until("/^top *\\nfirst *\\nsecond/.test(document.querySelector('.terminal').textContent)");
    browser.until(commands);
    browser.keys(".terminal", ":wq\u{e007}");
    browser.keys(
        ".terminal",
        "clear; cat /tmp/note; ls -d --color=always /tmp\u{e007}",
    );
    browser.until(
        "document.querySelector('.terminal').textContent.includes('top\\nfirst\\nsecond\\n')",
    );
    browser.until("[...document.querySelectorAll('.terminal .bold')].some((part) => part.textContent === '/tmp')");
    browser.assert_readable("ui-container");
    browser.keys(".terminal", "exit\u{e007}");
    sees("'The shell has ended.'");

    browser.click("#images");
    browser.until("document.querySelectorAll('[data-image]').length > 0");
    browser.assert_readable("ui-images");
    browser.script("[...document.querySelectorAll('[data-image]')].find((b) => b.innerText.includes('ui-hostile')).click()");
    sees("'What a container sees'");
    // A step of its history, a setting and the name of a file.
    browser.until(&format!(
        "document.body.innerText.split({hostile_file}).length > 3"
    ));
    browser.assert_readable("ui-layers");

    browser.click("#comparisons");
    sees(&hostile);
    browser.click(".report");
    sees("'What it costs'");
    assert_ne!(browser.text("document.title"), "owned");
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    browser.assert_quiet(&format!("http://{}/", ui.place()));
    drop(running);
    hull.ok(&["rmi", "ui-hostile"]);
}

#[test]
fn the_terminal_draws_what_programs_write() {
    let hull = Hull::fresh();
    let ui = Ui::start(&hull);
    let browser = Browser::start();
    browser.open(&ui.address);
    for (written, drawn) in [
        ("abc\rX", "Xbc"),
        ("\x1b[2;3Hhi\x1b[1;1Htop", "top\n  hi"),
        ("1\r\n2\r\n3\r\n4\r\n5", "1\n2\n3\n4\n5"),
        ("0123456789ab", "0123456789\nab"),
        ("abc\x1b[2D\x1b[K", "a"),
        ("a\x1b[?1049hother\x1b[?1049lb", "ab"),
        ("\x1b]0;title\x07x", "x"),
        ("1\r\n2\r\n3\x1b[1;1H\x1b[L0", "0\n1\n2\n3"),
        ("abcdef\x1b[3G\x1b[2P", "abef"),
        ("\x1b[2;3r\x1b[3;1Hx\n\ry\x1b[r\x1b[4;1Hend", "\nx\ny\nend"),
        ("a\tb\x08c", "a       c"),
        // Far too much of everything, and what ends in the middle.
        (
            "\x1b[99999999999999999999Cx\x1b[9999S\x1b[9999;9999Hy",
            "         x\n\n\n\n\n\n\n         y",
        ),
        ("é漢\x1b[31mred\x1b[0m\x1b[38;5;1", "é漢red"),
    ] {
        let code = format!(
            "const element = document.createElement('pre'); const screen = new Screen(element, 4, 10); \
             screen.hidden = true; screen.write(new TextEncoder().encode({})); \
             return element.textContent;",
            serde_json::to_string(written).unwrap()
        );
        assert_eq!(browser.script(&code), drawn, "{written:?}");
    }
    // In two pieces it is the same as in one.
    let split = browser.script(
        "const element = document.createElement('pre'); const screen = new Screen(element, 4, 10); \
         screen.hidden = true; const bytes = new TextEncoder().encode('é\\x1b[1mbold\\x1b[0m'); \
         for (const byte of bytes) screen.write(Uint8Array.of(byte)); return element.innerHTML;",
    );
    assert_eq!(split, "é<span class=\"bold\">bold</span>");
    browser.assert_quiet(&format!("http://{}/", ui.place()));
}
