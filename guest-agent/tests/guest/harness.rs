//! An agent in namespaces of its own on this machine, as close to a guest as that gets:
//! PID 1 of a PID namespace, with a root that holds nothing but its directories.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use guest_agent::protocol::{AgentError, Exec, Exit, Request, Response, Signal, Start};
use tempfile::TempDir;

use crate::talk::{busybox, exec, receive, send, shell, stream_out};

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
cd "$WORK/cgroup"
rmdir "$NAME/container" "$NAME/agent" "$NAME"
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

    /// A path of the agent's own tree, as this machine sees it, once it is there.
    pub fn inside(&self, path: &str) -> PathBuf {
        let children = |pid: &str| {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            children.unwrap_or_default()
        };
        let mut pids = vec![self.agent.id().to_string()];
        while let Some(pid) = pids.pop() {
            let found = PathBuf::from(format!("/proc/{pid}/root{path}"));
            if found.exists() {
                return found;
            }
            pids.extend(children(&pid).split_whitespace().map(str::to_owned));
        }
        panic!("the agent has no {path}");
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
