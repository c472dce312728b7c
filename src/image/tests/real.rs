//! Against the distribution project's own registry server, Debian's `docker-registry`.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Heard, Home, TestImage, layer, server};
use crate::image::{self, Reference, Silent};

struct RealRegistry {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the server on a free port and waits until it answers; none where it is not installed.
fn start() -> Option<RealRegistry> {
    let directory = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = directory.path().join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: '127.0.0.1:{port}'}}\n",
        directory.path().join("data").display()
    );
    std::fs::write(&config, text).unwrap();
    let spawned = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("docker-registry: {error}"),
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "docker-registry ended");
        assert!(Instant::now() < deadline, "docker-registry does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(RealRegistry {
        child,
        port,
        _directory: directory,
    })
}

#[test]
fn what_is_pushed_is_pulled() {
    let Some(registry) = start() else {
        eprintln!("skipped: docker-registry is not installed");
        return;
    };
    let (home, other) = (Home::new(), Home::new());
    let image = TestImage::new("amd64", &[layer(&[("a", 50_000)]), layer(&[("b", 10)])]);
    let mut content = server::Content::default();
    content.image("x", &image);
    let source = server::Server::good(content).reference("x");
    image::pull(&home.store, &home.settings, &source, None, &Silent).unwrap();
    let target: Reference = format!("127.0.0.1:{}/deep/name:v1", registry.port)
        .parse()
        .unwrap();
    let error = image::push(&home.store, &home.settings, &target, None, &Silent).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not exist locally with the tag")
    );
    image::tag(&home.store, &source.to_string(), &target, None).unwrap();
    let heard = Heard::default();
    let digest = image::push(&home.store, &home.settings, &target, None, &heard).unwrap();
    let heard = heard.0.into_inner().unwrap();
    assert_eq!(
        heard
            .iter()
            .filter(|line| line.ends_with(": Pushed"))
            .count(),
        2,
        "{heard:?}"
    );
    assert_eq!(
        heard.last().unwrap(),
        &format!("v1: digest: {digest} size: {}", image.manifest.len())
    );
    let heard = Heard::default();
    image::push(&home.store, &home.settings, &target, None, &heard).unwrap();
    let heard = heard.0.into_inner().unwrap();
    assert_eq!(
        heard
            .iter()
            .filter(|line| line.ends_with("already exists"))
            .count(),
        2
    );

    let pulled = image::pull(&other.store, &other.settings, &target, None, &Silent).unwrap();
    assert_eq!((pulled.digest, pulled.image.id), (digest, image.id()));
    assert_eq!(
        image::tags(&other.settings, &target).unwrap(),
        std::slice::from_ref(&target)
    );
    let missing: Reference = format!("127.0.0.1:{}/nosuch:1", registry.port)
        .parse()
        .unwrap();
    let error = image::pull(&other.store, &other.settings, &missing, None, &Silent).unwrap_err();
    assert!(
        error.to_string().contains("not found: manifest unknown"),
        "{error}"
    );
}
