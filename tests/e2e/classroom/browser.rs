//! A real browser without a window, driven through chromedriver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::PATIENCE;

/// What makes a page readable, asked of the page itself.
const READABLE: &str = include_str!("readable.js");

/// One browser with one tab.
pub struct Browser {
    driver: Child,
    place: String,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed by make test");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port: u16 = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, port) = line.split_once("started successfully on port ")?;
                port.trim_end_matches('.').parse().ok()
            })
            .expect("chromedriver says its port");
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-background-networking".to_owned(),
            "--no-first-run".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let mut browser = Self {
            driver,
            place: format!("127.0.0.1:{port}"),
            session: String::new(),
            _profile: profile,
        };
        let options = json!({"binary": "/usr/bin/chromium", "args": arguments});
        let logs = json!({"browser": "ALL", "performance": "ALL"});
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs});
        let answer = browser.ask(
            "POST",
            "/session",
            &json!({"capabilities": {"alwaysMatch": wanted}}),
        );
        browser.session = format!("/session/{}", answer["sessionId"].as_str().unwrap());
        browser
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut value = self
            .try_ask(method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let value = value["value"].take();
        assert!(value["error"].is_null(), "{method} {path}: {value:#}");
        value
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let body = match method {
            "GET" => String::new(),
            _ => body.to_string(),
        };
        let mut stream = TcpStream::connect(&self.place)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.session,
            self.place,
            body.len()
        )?;
        // It keeps the connection open.
        let mut answer = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            answer.read_line(&mut line)?;
            let lower = line.to_ascii_lowercase();
            if let Some(given) = lower.strip_prefix("content-length:") {
                length = given.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }

    pub fn open(&self, address: &str) {
        self.ask("POST", "/url", &json!({"url": address}));
    }

    pub fn open_file(&self, file: &Path) {
        self.open(&format!("file://{}", file.display()));
    }

    /// The value of an expression in the page.
    pub fn value(&self, expression: &str) -> Value {
        self.script(&format!("return {expression};"))
    }

    pub fn text(&self, expression: &str) -> String {
        self.value(expression)
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub fn script(&self, code: &str) -> Value {
        self.ask(
            "POST",
            "/execute/sync",
            &json!({"script": code, "args": []}),
        )
    }

    /// Waits, in the page, until an expression is true; what it looked like where it never is.
    #[track_caller]
    pub fn until(&self, expression: &str) {
        let code = format!(
            "const done = arguments[0]; const begin = Date.now();
             (function look() {{
               let is; try {{ is = {expression}; }} catch (error) {{ is = false; }}
               if (is) done(true);
               else if (Date.now() - begin > 60000) done(document.body.innerText);
               else requestAnimationFrame(look);
             }})();"
        );
        self.ask("POST", "/timeouts", &json!({"script": 90_000}));
        let answer = self.ask(
            "POST",
            "/execute/async",
            &json!({"script": code, "args": []}),
        );
        assert_eq!(
            answer,
            json!(true),
            "{expression} never came true in:\n{answer}"
        );
    }

    /// Clicks as a person does; the element must be there and reachable.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let found = self.element(selector);
        self.ask("POST", &format!("/element/{found}/click"), &json!({}));
    }

    /// Types into an element.
    pub fn keys(&self, selector: &str, text: &str) {
        let found = self.element(selector);
        self.ask(
            "POST",
            &format!("/element/{found}/value"),
            &json!({"text": text}),
        );
    }

    fn element(&self, selector: &str) -> String {
        let query = json!({"using": "css selector", "value": selector});
        let found = self.ask("POST", "/element", &query);
        let (_, id) = found.as_object().unwrap().iter().next().unwrap();
        id.as_str().unwrap().to_owned()
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.ask(
            "POST",
            "/goog/cdp/execute",
            &json!({"cmd": command, "params": parameters}),
        )
    }

    /// The page as it is on a screen of this width, in these colours.
    pub fn look(&self, width: u32, dark: bool) {
        let size =
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let colours = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": colours}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    pub fn screenshot(&self, file: &Path) {
        let picture = self.ask("GET", "/screenshot", &Value::Null);
        let engine = base64::engine::general_purpose::STANDARD;
        std::fs::write(file, engine.decode(picture.as_str().unwrap()).unwrap()).unwrap();
    }

    /// The page as it would be printed, as bytes of a PDF.
    pub fn print(&self) -> Vec<u8> {
        let printed = self.ask("POST", "/print", &json!({}));
        let engine = base64::engine::general_purpose::STANDARD;
        engine.decode(printed.as_str().unwrap()).unwrap()
    }

    /// Wide and narrow, light and dark: nothing sticks out, all text is large enough and stands
    /// out from what is behind it. With `pictures` the screens are kept under that name.
    #[track_caller]
    pub fn assert_readable(&self, pictures: &str) {
        for width in [1280, 400] {
            for dark in [false, true] {
                self.look(width, dark);
                let wrong = self.script(READABLE);
                let colours = if dark { "dark" } else { "light" };
                assert_eq!(wrong, json!([]), "{pictures} at {width} pixels, {colours}");
                if let Some(directory) = std::env::var_os("HULL_TEST_PICTURES") {
                    let name = format!("{pictures}-{width}-{colours}.png");
                    self.screenshot(&Path::new(&directory).join(name));
                }
            }
        }
        self.look(1280, false);
    }

    /// No page said anything to the console, and none asked anybody but `own` for anything.
    #[track_caller]
    pub fn assert_quiet(&self, own: &str) {
        let said = self.ask("POST", "/se/log", &json!({"type": "browser"}));
        assert_eq!(said, json!([]), "the console is not empty");
        let events = self.ask("POST", "/se/log", &json!({"type": "performance"}));
        let mut asked = 0;
        for event in events.as_array().unwrap() {
            let message: Value = serde_json::from_str(event["message"].as_str().unwrap()).unwrap();
            let message = &message["message"];
            if message["method"] != "Network.requestWillBeSent" {
                continue;
            }
            let of = message["params"]["documentURL"]
                .as_str()
                .unwrap_or_default();
            // The page that the browser shows before it is told which one to open.
            if of.starts_with("chrome://") || of.starts_with("chrome-untrusted://") {
                continue;
            }
            let address = message["params"]["request"]["url"].as_str().unwrap();
            let inner = ["data:", "about:", "blob:", "chrome:"]
                .iter()
                .any(|kind| address.starts_with(kind));
            assert!(
                inner || address.starts_with(own),
                "the page asked for {address}"
            );
            asked += usize::from(!inner);
        }
        assert!(asked > 0, "nothing was recorded");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session, not with the driver.
        if !self.session.is_empty() {
            let _ = self.try_ask("DELETE", "", &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
