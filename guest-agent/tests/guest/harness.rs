//! An agent in namespaces of its own on this machine, as close to a guest as that gets:
//! PID 1 of a PID namespace, with a root that holds nothing but its directories.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use guest_agent::protocol::{
    AgentError, BlockDevice, Envelope, Exec, Exit, Frame, FrameKind, Request, Response, Signal,
    Start, Stdio, Storage, VERSION, WindowSize, read_frame, write_frame,
};
use oci_spec::runtime::Spec;
use tempfile::TempDir;

/// Enters the agent's root: a tmpfs with the host's libraries and tools bound in.
const ENTER: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs none "$WORK/root"
cd "$WORK/root"
mkdir dev proc sys cgroup layers merged writable emulators files images old
for dir in lib lib64 usr; do
    [ ! -e /$dir ] || { mkdir $dir; mount --rbind /$dir $dir; }
done
mount --bind "$WORK/images" images
cp "$AGENT" init
cp /bin/busybox .
/usr/sbin/pivot_root . old
/busybox umount -l /old
rmdir old
exec /init --listener 90 --cgroup container "$@"
"#;

/// Puts the agent into a control group whose root it sees as its own.
const CGROUP: &str = r#"
set -e
mount --make-rprivate /
mount -t cgroup2 none "$WORK/cgroup"
mkdir -p "$WORK/cgroup/$NAME/agent"
echo $$ > "$WORK/cgroup/$NAME/cgroup.procs"
exec unshare --cgroup --pid --ipc --uts --net --fork --kill-child sh -c '
    echo $$ > "$WORK/cgroup/$NAME/agent/cgroup.procs"
    exec sh -c "$ENTER" sh "$@"' sh "$@"
"#;

const CLEAN: &str = r#"
mount --make-rprivate /
mount -t cgroup2 none "$WORK/cgroup"
for group in container agent .; do rmdir "$WORK/cgroup/$NAME/$group"; done
"#;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Whether this machine can run the tests: root, and a kernel that mounts EROFS from files.
pub fn possible() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let tools = ["/usr/bin/mkfs.erofs", "/bin/busybox", "/sbin/mkfs.ext4"];
    let missing = tools.iter().find(|t| !Path::new(t).exists());
    let possible = nix::unistd::geteuid().is_root() && version >= (6, 13) && missing.is_none();
    if !possible {
        eprintln!("not run: needs root, Linux 6.13 or newer (here {release:?}), and {tools:?}");
    }
    possible
}

/// A running agent.
pub struct Guest {
    work: TempDir,
    name: String,
    loops: Vec<PathBuf>,
    agent: Child,
}

/// What a process said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit: Exit,
}

impl Outcome {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Directories and files of one layer.
pub type Layer<'a> = &'a dyn Fn(&Path);

impl Guest {
    /// A guest with busybox and, in a layer above it, what `more` adds.
    pub fn new(more: Layer<'_>) -> Self {
        Self::with_layers(&[more], false)
    }

    /// A guest whose agent may open this many files.
    pub fn with_open_files(open_files: u64) -> Self {
        Self::build(&[&|_| {}], false, Some(open_files))
    }

    /// A guest with these layers above busybox, the topmost first, and perhaps a disk.
    pub fn with_layers(layers: &[Layer<'_>], writable: bool) -> Self {
        Self::build(layers, writable, None)
    }

    fn build(layers: &[Layer<'_>], writable: bool, open_files: Option<u64>) -> Self {
        let work = tempfile::tempdir().unwrap();
        for dir in ["root", "images", "cgroup"] {
            fs::create_dir(work.path().join(dir)).unwrap();
        }
        let mut arguments = vec!["--disk".to_owned(), "layers=/images/layer".to_owned()];
        let image = |number: usize| work.path().join(format!("images/layer{number}"));
        for (index, fill) in layers.iter().enumerate() {
            make_image(fill, &image(index + 1));
        }
        fs::copy(base(), image(layers.len() + 1)).unwrap();
        let mut loops = Vec::new();
        if writable {
            let disk = work.path().join("disk");
            run(Command::new("truncate").arg("-s64M").arg(&disk));
            run(Command::new("/sbin/mkfs.ext4").arg("-q").arg(&disk));
            let out = Command::new("/sbin/losetup")
                .args(["--find", "--show"])
                .arg(&disk)
                .output();
            let node = String::from_utf8(out.unwrap().stdout)
                .unwrap()
                .trim()
                .to_owned();
            arguments.push("--disk".to_owned());
            arguments.push(format!("writable={node}"));
            loops.push(PathBuf::from(node));
        }
        let listener = UnixListener::bind(work.path().join("agent")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let name = format!(
            "hull-test-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", CGROUP, "sh"])
            .args(arguments)
            .env("WORK", work.path())
            .env("NAME", &name)
            .env("ENTER", ENTER)
            .env("AGENT", env!("CARGO_BIN_EXE_hull-agent"));
        let fd = listener.as_raw_fd();
        let limit = open_files.map(|n| nix::libc::rlimit {
            rlim_cur: n,
            rlim_max: n,
        });
        // SAFETY: all calls are async-signal-safe and touch no memory of the parent.
        unsafe {
            command.pre_exec(move || {
                nix::libc::dup2(fd, 90);
                if let Some(limit) = &limit {
                    nix::libc::setrlimit(nix::libc::RLIMIT_NOFILE, limit);
                }
                // Whoever runs the tests may ignore signals; a guest's kernel does not.
                for signal in 1..=64 {
                    nix::libc::signal(signal, nix::libc::SIG_DFL);
                }
                // The agent must not outlive a test that is killed.
                nix::libc::prctl(nix::libc::PR_SET_PDEATHSIG, nix::libc::SIGKILL);
                Ok(())
            });
        }
        let agent = command.spawn().unwrap();
        Self {
            work,
            name,
            loops,
            agent,
        }
    }

    /// A new connection; it may connect before the agent takes it.
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.work.path().join("agent")).unwrap();
        // What takes longer hangs, which is a failure and not a reason to wait.
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
    }

    /// Sends a request on a new connection and reads the answer.
    pub fn request(&self, request: Request) -> (UnixStream, Response) {
        let mut stream = self.connect();
        send(&mut stream, &request);
        let response = receive(&mut stream);
        (stream, response)
    }

    /// Starts the container and returns the connection of its first process.
    pub fn start(&self, start: Start) -> UnixStream {
        let (stream, response) = self.request(Request::Start(Box::new(start)));
        assert!(matches!(response, Response::Ok { .. }), "{response:?}");
        stream
    }

    /// Runs the container to its end.
    pub fn run(&self, start: Start) -> Outcome {
        let stream = self.start(start);
        stream_out(stream)
    }

    /// Runs a container whose first process waits, for tests that work with `exec`.
    pub fn idle(&self) -> UnixStream {
        self.start(shell(
            "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done",
        ))
    }

    /// Runs one more process to its end.
    pub fn exec(&self, id: &str, script: &str) -> Outcome {
        stream_out(self.begin(exec(id, script)))
    }

    /// Begins one more process and returns its connection.
    pub fn begin(&self, exec: Exec) -> UnixStream {
        let (stream, response) = self.request(Request::Exec(Box::new(exec)));
        assert!(matches!(response, Response::Ok { .. }), "{response:?}");
        stream
    }

    /// The error that a start ends with.
    pub fn refused(&self, start: Start) -> AgentError {
        match self.request(Request::Start(Box::new(start))).1 {
            Response::Error(error) => error,
            other => panic!("{other:?}"),
        }
    }

    /// The error that an exec ends with.
    pub fn exec_refused(&self, exec: Exec) -> AgentError {
        match self.request(Request::Exec(Box::new(exec))).1 {
            Response::Error(error) => error,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a signal to a process.
    pub fn signal(&self, process: &str, signal: i32) -> Response {
        let process = process.to_owned();
        self.request(Request::Signal(Signal { process, signal })).1
    }

    /// The machine's own view of the writable disk.
    pub fn disk(&self) -> PathBuf {
        self.work.path().join("disk")
    }

    /// Whether the agent still runs.
    pub fn agent_is_alive(&mut self) -> bool {
        self.agent.try_wait().unwrap().is_none()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The PID namespace goes with unshare, by --kill-child.
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        for node in &self.loops {
            let _ = Command::new("/sbin/losetup")
                .arg("--detach")
                .arg(node)
                .status();
        }
        // Groups can be removed once the last process is gone.
        for _ in 0..200 {
            let cleaned = Command::new("unshare")
                .args(["--mount", "sh", "-c", CLEAN])
                .env("WORK", self.work.path())
                .env("NAME", &self.name)
                .stderr(std::process::Stdio::null())
                .status();
            if cleaned.is_ok_and(|s| s.success()) {
                break;
            }
        }
    }
}

fn make_image(fill: Layer<'_>, image: &Path) {
    let tree = tempfile::tempdir().unwrap();
    // The root of an image is not as private as a temporary directory.
    fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fill(tree.path());
    run(Command::new("mkfs.erofs")
        .args(["-d0", "--all-root"])
        .arg(image)
        .arg(tree.path()));
}

/// The image with busybox, made once.
fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox.erofs");
        let _ = fs::remove_file(&image);
        make_image(&busybox, &image);
        image
    })
}

/// Runs a tool that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

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
    let process = spec.process_mut().as_mut().unwrap();
    process.set_args(Some(arguments.iter().map(|a| (*a).to_owned()).collect()));
    Start {
        storage: Storage {
            layers: vec![layer(1), layer(2)],
            ..Storage::default()
        },
        spec,
        user: "0".to_owned(),
        groups: Vec::new(),
        files: Vec::new(),
        init: false,
        architecture: if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        }
        .to_owned(),
        stdio: Stdio::default(),
        clock_ns: 0,
        entropy: vec![1; 32],
    }
}

/// An exec of `sh -c script`.
pub fn exec(id: &str, script: &str) -> Exec {
    let start = shell(script);
    Exec {
        id: id.to_owned(),
        process: start.spec.process().clone().unwrap(),
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
