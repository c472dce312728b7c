//! A registry in a thread, as well or badly behaved as a test wants it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::TestImage;
use crate::image::digest::Digest;
use crate::image::reference::Reference;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Close the connection after this many bytes of the body.
    pub cut: Option<usize>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut: None,
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }
}

/// What the server has, by path.
#[derive(Debug, Clone, Default)]
pub struct Content(BTreeMap<String, (String, Vec<u8>)>);

impl Content {
    pub fn add(&mut self, path: &str, media_type: &str, body: &[u8]) {
        self.0
            .insert(path.to_owned(), (media_type.to_owned(), body.to_vec()));
    }

    /// An image under `repository`, by digest and as `latest`.
    pub fn image(&mut self, repository: &str, image: &TestImage) {
        self.parts(repository, image);
        self.latest(repository, &image.manifest);
    }

    pub fn parts(&mut self, repository: &str, image: &TestImage) {
        let digest = Digest::of(&image.manifest);
        let kind = crate::image::manifest::OCI_MANIFEST;
        self.add(
            &format!("/v2/{repository}/manifests/{digest}"),
            kind,
            &image.manifest,
        );
        for blob in image
            .layers
            .iter()
            .map(|layer| &layer.blob)
            .chain([&image.config])
        {
            let path = format!("/v2/{repository}/blobs/{}", Digest::of(blob));
            self.add(&path, "application/octet-stream", blob);
        }
    }

    pub fn latest(&mut self, repository: &str, document: &[u8]) {
        let value: serde_json::Value = serde_json::from_slice(document).unwrap_or_default();
        let kind = value["mediaType"]
            .as_str()
            .unwrap_or("application/json")
            .to_owned();
        self.add(
            &format!("/v2/{repository}/manifests/latest"),
            &kind,
            document,
        );
    }

    /// What a good registry answers.
    pub fn answer(&self, request: &Request) -> Reply {
        if request.path == "/v2/" {
            return Reply::new(200, "{}");
        }
        let Some((kind, body)) = self.0.get(&request.path) else {
            return Reply::new(404, r#"{"errors":[{"message":"manifest unknown"}]}"#);
        };
        let start = request.header("range").and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        });
        match start {
            None => Reply::new(200, body.clone()).with("content-type", kind),
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
                Reply::new(206, &body[start..]).with("content-range", &range)
            }
        }
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A running server; it ends with the process.
pub struct Server {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (handler, seen): (Arc<Handler>, _) = (Arc::new(handler), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &*handler, &seen));
            }
        });
        Self { port, requests }
    }

    pub fn good(content: Content) -> Self {
        Self::start(move |request| content.answer(request))
    }

    pub fn reference(&self, repository: &str) -> Reference {
        format!("127.0.0.1:{}/{repository}", self.port)
            .parse()
            .unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests so far whose path contains `part`.
    pub fn seen(&self, part: &str) -> Vec<Request> {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .filter(|request| request.path.contains(part))
            .cloned()
            .collect()
    }
}

/// Requests on one connection. What is not HTTP, such as an attempt at TLS, ends it.
fn serve(stream: TcpStream, handler: &Handler, seen: &Mutex<Vec<Request>>) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    let mut output = stream;
    loop {
        let mut line = String::new();
        input.by_ref().take(8192).read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            input.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers
            .get("content-length")
            .and_then(|text| text.parse().ok());
        std::io::copy(
            &mut input.by_ref().take(length.unwrap_or(0)),
            &mut std::io::sink(),
        )
        .ok()?;
        let request = Request {
            method,
            path,
            headers,
        };
        seen.lock().unwrap().push(request.clone());
        let reply = handler(&request);
        let mut head = format!("HTTP/1.1 {} Status\r\n", reply.status);
        let given = reply
            .headers
            .iter()
            .any(|(name, _)| name == "content-length");
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !given {
            head += &format!("content-length: {}\r\n", reply.body.len());
        }
        output.write_all((head + "\r\n").as_bytes()).ok()?;
        if request.method != "HEAD" {
            let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
            output.write_all(&reply.body[..end]).ok()?;
        }
        if reply.cut.is_some() {
            return None;
        }
    }
}
