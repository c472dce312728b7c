//! What every test needs: the binary, a state directory, readable failures.

use std::env;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long an event may take on a busy machine before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long a command may take that a test waits for: one that hangs fails its own test alone.
const HANGS: Duration = Duration::from_secs(600);

/// One state directory and the binary that works on it.
#[derive(Debug)]
pub struct Hull {
    root: PathBuf,
    /// Run as this user, where the tests run as root.
    user: Option<u32>,
    _own: Option<tempfile::TempDir>,
}

/// What a finished command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn binary() -> PathBuf {
    env::var_os("HULL_BIN").map_or_else(|| repository().join("target/release/hull"), PathBuf::from)
}

/// The engine that is tested: the one that containers get here by default, or another one that
/// the settings name, for tests on another machine.
pub fn engine() -> String {
    env::var("HULL_TEST_ENGINE").unwrap_or("uml".to_owned())
}

/// What `uname -m` says in an image of this machine's architecture.
pub fn machine() -> &'static str {
    env::consts::ARCH
}

/// Where state directories of tests lie: not in the checkout where there is none.
fn target() -> PathBuf {
    env::var_os("HULL_TEST_TARGET").map_or_else(|| repository().join("target"), PathBuf::from)
}

fn settings() -> PathBuf {
    env::var_os("HULL_CONFIG").map_or_else(
        || repository().join("target/demo/config.toml"),
        PathBuf::from,
    )
}

impl Hull {
    /// The state directory that most tests share, with the images pulled.
    pub fn shared() -> Self {
        static READY: OnceLock<()> = OnceLock::new();
        let hull = Self {
            root: target().join("test-state"),
            user: None,
            _own: None,
        };
        READY.get_or_init(|| {
            for (image, platform) in [
                ("busybox", "linux/amd64"),
                ("busybox", "linux/arm64"),
                ("debian", "linux/amd64"),
                ("debian", "linux/arm64"),
            ] {
                hull.ok(&["pull", "-q", "--platform", platform, image]);
            }
        });
        hull
    }

    /// An empty state directory of the test's own.
    pub fn fresh() -> Self {
        let own = tempfile::Builder::new()
            .prefix("test-state-")
            .tempdir_in(target())
            .unwrap();
        Self {
            root: own.path().to_owned(),
            user: None,
            _own: Some(own),
        }
    }

    /// An empty state directory of a user without any privileges. The tests' own user will do
    /// where that is not root; the checkout must be readable to others where it is.
    pub fn unprivileged() -> Self {
        const NOBODY_IN_PARTICULAR: u32 = 54321;
        let superuser = nix::unistd::geteuid().is_root();
        let own = tempfile::Builder::new()
            .prefix("hull-user-")
            .tempdir()
            .unwrap();
        let user = superuser.then_some(NOBODY_IN_PARTICULAR);
        std::os::unix::fs::chown(own.path(), user, user).unwrap();
        Self {
            root: own.path().to_owned(),
            user,
            _own: Some(own),
        }
    }

    /// This state directory.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            user: None,
            _own: None,
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `hull` with `arguments`, its state and its settings.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env("HULL_ROOT", &self.root)
            .env("HULL_CONFIG", settings());
        if let Some(user) = self.user {
            use std::os::unix::process::CommandExt;
            command.uid(user).gid(user).env("HOME", &self.root);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Done {
        done(self.output(arguments))
    }

    fn output<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().expect("running hull"))
    }

    /// Runs to the end, expects success, returns standard output as bytes.
    #[track_caller]
    pub fn run_binary<S: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[S]) -> Vec<u8> {
        let output = self.output(arguments);
        assert!(output.status.success(), "hull {arguments:?}: {output:?}");
        output.stdout
    }

    /// Runs to the end with `input` as standard input.
    pub fn feed<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Done {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("running hull");
        let mut stdin = child.stdin.take().expect("a pipe was asked for");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // The command may not read everything.
            let _ = stdin.write_all(&input);
        });
        let output = finish(child);
        writer.join().expect("writing standard input");
        done(output)
    }

    /// Runs to the end, expects success, returns standard output without its last newline.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[S]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "hull {arguments:?}: {done:#?}");
        done.stdout.trim_end_matches('\n').to_owned()
    }

    /// Runs to the end, expects `code`, returns standard error.
    #[track_caller]
    pub fn fails<S: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[S], code: i32) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, code, "hull {arguments:?}: {done:#?}");
        assert!(!done.stderr.contains("panicked"), "{done:#?}");
        done.stderr
    }

    /// Starts a container in the background and returns its id; it is removed at the end.
    #[track_caller]
    pub fn background(&self, arguments: &[&str]) -> Running<'_> {
        let id = self.ok(&[&["run", "-d"], arguments].concat());
        Running { hull: self, id }
    }

    /// A field of `hull inspect`.
    #[track_caller]
    pub fn field(&self, name: &str, template: &str) -> String {
        self.ok(&["inspect", "--format", template, name])
    }
}

/// A container that is removed when the test ends, however it ends.
#[derive(Debug)]
pub struct Running<'a> {
    hull: &'a Hull,
    pub id: String,
}

impl Running<'_> {
    /// What there is to know about a container that did not do what a test waited for.
    fn story(&self) -> String {
        let state = self
            .hull
            .run(&["inspect", "--format", "{{json .State}}", &self.id]);
        let logs = self.hull.run(&["logs", &self.id]);
        let short = self.id.get(..24).unwrap_or(&self.id);
        let words = self.hull.root().join("run/containers").join(short);
        let words = std::fs::read_to_string(words.join("supervisor.log")).unwrap_or_default();
        let networks = self.hull.root().join("run/network/holder.log");
        let networks = std::fs::read_to_string(networks).unwrap_or_default();
        format!("{state:#?}\n{logs:#?}\nsupervisor: {words}\nnetworks: {networks}")
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("container {}: {}", self.id, self.story());
        }
        let _ = self.hull.run(&["rm", "-f", &self.id]);
    }
}

/// Waits for the end of a command, and kills one that hangs.
fn finish(child: Child) -> Output {
    let pid = Pid::from_raw(child.id().cast_signed());
    let (ended, end) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if end.recv_timeout(HANGS) == Err(RecvTimeoutError::Timeout) {
            eprintln!("hull (process {pid}) was killed: it had not ended after {HANGS:?}");
            let _ = kill(pid, Signal::SIGKILL);
        }
    });
    let output = child.wait_with_output().expect("waiting for hull");
    drop(ended);
    watch.join().expect("watching hull");
    output
}

fn done(output: Output) -> Done {
    use std::os::unix::process::ExitStatusExt;
    let status = output.status;
    Done {
        code: status
            .code()
            .unwrap_or_else(|| -status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Asks until `check` holds; for things that no event announces from outside.
#[track_caller]
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !check() {
        assert!(
            begin.elapsed() < PATIENCE,
            "{what} did not come true in time"
        );
        std::thread::yield_now();
    }
}

/// The body of what a web server says to a request; nothing when it does not answer.
pub fn fetch(place: &str, path: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(place)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    body.unwrap_or_default().to_owned()
}

/// Whether a process with this id is there and not a zombie.
pub fn alive(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit(") ").next().unwrap_or("Z").starts_with('Z'),
        Err(_) => false,
    }
}
