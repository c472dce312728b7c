//! The ways in: certificates on a network, a socket that is handed over, passwords of registries.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use super::{Container, Server};
use crate::harness::{Hull, eventually};
use crate::login::Registry;

/// Two authorities, a server of the first and a client of each.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn make() -> Self {
        let own = Self(tempfile::tempdir().unwrap());
        for authority in ["ours", "theirs"] {
            own.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={authority} \
                 -keyout {authority}-ca-key.pem -out {authority}-ca.pem"
            ));
        }
        own.sign("server", "ours", "serverAuth");
        own.sign("ours-client", "ours", "clientAuth");
        own.sign("theirs-client", "theirs", "clientAuth");
        own
    }

    fn sign(&self, name: &str, authority: &str, usage: &str) {
        let extensions = format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n");
        std::fs::write(self.0.path().join("extensions"), extensions).unwrap();
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}-key.pem -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}-ca.pem -CAkey {authority}-ca-key.pem -CAcreateserial -days 2 \
             -extfile extensions -out {name}.pem"
        ));
    }

    fn openssl(&self, line: &str) {
        let output = Command::new("openssl")
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "openssl {line}: {output:?}");
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn only_who_shows_a_certificate_is_served_on_a_network() {
    let hull = Hull::shared();
    let certificates = Certificates::make();
    let serve = |authority: &str, key: &str| {
        hull.command(&[
            "serve",
            "--tcp",
            "127.0.0.1:0",
            "--tlscacert",
            &certificates.path(authority),
            "--tlscert",
            &certificates.path("server.pem"),
            "--tlskey",
            &certificates.path(key),
        ])
    };
    let mut command = serve("ours-ca.pem", "server-key.pem");
    let mut server = Ends(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut errors = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let line = errors.next().unwrap().unwrap();
    assert!(line.contains("DOCKER_TLS_VERIFY=1"), "{line}");
    let address = line.split("DOCKER_HOST=tcp://").nth(1).unwrap();
    let address = address.split(' ').next().unwrap();

    let docker = |client: &str, arguments: &[&str]| {
        let mut command = Command::new("docker");
        command
            .args([
                "--tlsverify",
                "--tlscacert",
                &certificates.path("ours-ca.pem"),
            ])
            .args(["--tlscert", &certificates.path(&format!("{client}.pem"))])
            .args(["--tlskey", &certificates.path(&format!("{client}-key.pem"))])
            .args(["--host", &format!("tcp://{address}")])
            .args(arguments)
            .env_remove("DOCKER_CONTEXT");
        command
    };
    let shown = docker("ours-client", &["version"]).output().unwrap();
    assert!(text(&shown).contains("Server: hull"), "{shown:?}");
    // Streams in both directions, the end of one of them, and an exit code.
    let mut upper = docker("ours-client", &["run", "--rm", "-i", "busybox"]);
    upper.args(["sh", "-c", "tr a-z A-Z; echo done >&2; exit 3"]);
    let input = tempfile::tempdir().unwrap();
    std::fs::write(input.path().join("in"), "hello\n".repeat(100_000)).unwrap();
    upper.stdin(std::fs::File::open(input.path().join("in")).unwrap());
    let ended = upper.output().unwrap();
    assert_eq!(
        ended.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    assert_eq!(ended.stdout, "HELLO\n".repeat(100_000).into_bytes());
    assert_eq!(ended.stderr, b"done\n");

    let refused = docker("theirs-client", &["version"]).output().unwrap();
    let said = text(&refused);
    assert!(
        !refused.status.success() && !said.contains("Server: hull"),
        "{said}"
    );
    let url = format!("https://{address}/_ping");
    let nobody = Command::new("curl")
        .args(["-sS", "--cacert", &certificates.path("ours-ca.pem"), &url])
        .output()
        .unwrap();
    assert!(
        !nobody.status.success() && nobody.stdout.is_empty(),
        "{nobody:?}"
    );
    assert!(text(&nobody).contains("certificate required"), "{nobody:?}");
    let plain = Command::new("curl")
        .args(["-sS", &format!("http://{address}/_ping")])
        .output()
        .unwrap();
    assert!(!text(&plain).contains("OK"), "{plain:?}");
    // Those who connect and say nothing keep nobody out.
    let idle: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let shown = docker("ours-client", &["version"]).output().unwrap();
    assert!(text(&shown).contains("Server: hull"), "{shown:?}");
    drop(idle);

    let wrong = serve("server-key.pem", "server-key.pem").output().unwrap();
    assert!(text(&wrong).contains("no certificate in"), "{wrong:?}");
    let wrong = serve("ours-ca.pem", "ours-client-key.pem")
        .output()
        .unwrap();
    assert!(
        text(&wrong).contains("the key for --tcp cannot be used"),
        "{wrong:?}"
    );
    let without = hull.fails(&["serve", "--tcp", "127.0.0.1:0"], 1);
    assert!(without.contains("--tlscacert"), "{without}");
}

/// Starts `hull serve` as systemd does, on a socket that listens already.
fn activated(hull: &Hull, listener: &UnixListener) -> Command {
    let line = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve";
    let program = hull.command(&["x"]).get_program().to_owned();
    let mut command = Command::new("sh");
    command.arg("-c").arg(line).arg(program);
    command.envs(
        hull.command(&["x"])
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
    command
}

fn listen(path: &Path, mode: u32) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    listener
}

#[test]
fn a_socket_that_listens_already_is_served() {
    let hull = Hull::shared();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("hull.sock");
    let listener = listen(&socket, 0o600);
    let host = format!("unix://{}", socket.display());
    // The client comes first, which is why the server is started.
    let client = Command::new("docker")
        .args([
            "--host",
            &host,
            "run",
            "--rm",
            "busybox",
            "echo",
            "on demand",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Ends(activated(&hull, &listener).spawn().unwrap());
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"on demand\n");
    // The socket is not this server's: it stays, for the next.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(server.0.id().try_into().unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert!(server.0.wait().unwrap().success());
    assert!(socket.exists());
    server = Ends(activated(&hull, &listener).spawn().unwrap());
    let again = Command::new("docker")
        .args(["--host", &host, "version"])
        .output()
        .unwrap();
    assert!(text(&again).contains("Server: hull"), "{again:?}");
    drop(server);

    let open = directory.path().join("open.sock");
    let listener = listen(&open, 0o666);
    let refused = activated(&hull, &listener).output().unwrap();
    assert!(!refused.status.success());
    assert!(
        text(&refused).contains("set SocketMode=0600"),
        "{refused:?}"
    );
}

#[test]
fn passwords_are_checked_and_sent_with_images() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let server = Server::new(&hull);
    let registry = Registry::start();
    let config = tempfile::tempdir().unwrap();
    let docker = |arguments: &[&str]| {
        let mut command = server.command(arguments);
        let output = command
            .env("DOCKER_CONFIG", config.path())
            .output()
            .unwrap();
        (output.status.code().unwrap(), text(&output))
    };
    let address = registry.address.as_str();
    let name = format!("{address}/private/box");
    hull.ok(&["tag", "busybox", &name]);
    let (code, said) = docker(&["push", &name]);
    assert!(code == 1 && said.contains("denied"), "{said}");
    let (code, said) = docker(&["login", "-u", "me", "-p", "wrong", address]);
    assert!(code == 1 && said.contains("login to"), "{said}");
    let (code, said) = docker(&["login", "-u", "me", "-p", "word", address]);
    assert!(code == 0 && said.contains("Login Succeeded"), "{said}");
    let (code, said) = docker(&["push", &name]);
    assert!(
        code == 0 && said.contains("latest: digest: sha256:"),
        "{said}"
    );
    let id = hull.ok(&["images", "-q", "--no-trunc", &name]);
    hull.ok(&["rmi", "-f", &name, "busybox"]);
    let (code, said) = docker(&["pull", &name]);
    assert!(
        code == 0 && said.contains("Status: Downloaded newer image"),
        "{said}"
    );
    assert_eq!(hull.ok(&["images", "-q", "--no-trunc", &name]), id);
    let (code, said) = docker(&["logout", address]);
    assert_eq!(code, 0, "{said}");
    // Nothing of a request's stays with the server.
    let (code, said) = docker(&["pull", &name]);
    assert!(code == 1 && said.contains("denied"), "{said}");
}

#[test]
fn a_websocket_carries_a_containers_streams() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let hull = Hull::shared();
    let server = Server::new(&hull);
    let name = "serve-socket";
    let _removed = Container::named(&hull, name);
    server.ok(&[
        "create",
        "-i",
        "--name",
        name,
        "busybox",
        "sh",
        "-c",
        "tr a-z A-Z; echo bye; exec sleep 1000",
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let socket = server.socket().to_owned();
    let heard = runtime.block_on(async {
        let stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let url = format!(
            "ws://docker/v1.43/containers/{name}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1"
        );
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        // Attached before the start, nothing is missed.
        hull.ok(&["start", name]);
        socket.send(Message::Text("hello ".into())).await.unwrap();
        socket
            .send(Message::Binary("socket\n".into()))
            .await
            .unwrap();
        socket
            .send(Message::Ping("still there".into()))
            .await
            .unwrap();
        let mut heard = String::new();
        let mut answered = false;
        while !(heard.ends_with("SOCKET\n") && answered) {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => heard.push_str(std::str::from_utf8(&bytes).unwrap()),
                Message::Pong(bytes) => answered = bytes.as_ref() == b"still there",
                other => panic!("{other:?}"),
            }
        }
        heard
    });
    assert_eq!(heard, "HELLO SOCKET\n");
    // A client that leaves is the end of the standard input that was its own.
    eventually("the input has ended", || {
        hull.ok(&["logs", name]).ends_with("bye")
    });
    let ask = |headers: &str| {
        let head =
            format!("GET /containers/{name}/attach/ws?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n");
        server.raw(format!("{head}{headers}Connection: close\r\n\r\n").as_bytes())
    };
    for headers in [
        "",
        "Upgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: x\r\n",
    ] {
        let answer = ask(headers);
        assert!(answer.starts_with("HTTP/1.1 400"), "{headers}: {answer}");
    }
    let missing = server
        .raw(b"GET /containers/no-such/attach/ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
}
