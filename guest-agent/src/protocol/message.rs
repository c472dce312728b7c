//! The requests, their answers and what they contain.

use serde::{Deserialize, Serialize};

use super::runtime::{Process, Spec};

/// What the first frame of a connection carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// The host's [`super::VERSION`]; the agent refuses another.
    pub version: u32,
    /// What the host wants.
    pub request: Request,
}

/// What the host can ask of the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Do beforehand what any container needs, in a guest that waits for one: its disks have
    /// nothing on them yet. What a [`Request::Start`] before it left, which must have failed, goes.
    Prepare(Prepare),
    /// Put the root together for the [`Request::Start`] that follows.
    Assemble(Box<Storage>),
    /// Assemble the root and start the container's first process; once per guest, and again
    /// after each [`Request::Seal`].
    Start(Box<Start>),
    /// Run one more process in the started container.
    Exec(Box<Exec>),
    /// Send a signal to a process of the container.
    Signal(Signal),
    /// Tell a process's terminal its new size.
    Resize(Resize),
    /// Do something with the container's files or about its processes.
    Work(Box<super::Work>),
    /// Set up a network interface, again or for the first time, or take it out of use.
    Network(super::Interface),
    /// Make the writable layer, in which nothing may run any more, the topmost of the layers
    /// and begin an empty one above it.
    Seal,
    /// Stop all processes of the container where they are, or let them go on.
    Freeze(bool),
    /// Change the most processes at once; without a number, any.
    LimitProcesses(Option<u64>),
    /// End every process, flush the writable layer and unmount it; the answer comes when
    /// the disk is whole. The host then ends the machine.
    Shutdown,
}

/// What is the same for every container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// As in [`Storage::emulators`].
    pub emulators: Option<BlockDevice>,
    /// As in [`Storage::binfmt`]; [`Start`] must not have them again.
    pub binfmt: Vec<BinfmtRule>,
    /// The hardware addresses of interfaces to take up, without any address of a network.
    pub interfaces: Vec<[u8; 6]>,
}

/// The layer stack of a container, in terms of the guest's block devices.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Storage {
    /// Read-only EROFS layers, the image's topmost first.
    pub layers: Vec<BlockDevice>,
    /// The writable ext4 layer; without one, the upper directory is a tmpfs.
    pub writable: Option<BlockDevice>,
    /// Nothing written has to survive the guest: `fsync` in the container returns at once.
    #[serde(default)]
    pub transient: bool,
    /// An EROFS image with the static emulators of [`Storage::binfmt`].
    pub emulators: Option<BlockDevice>,
    /// Foreign architectures to register before the container's root is in place.
    pub binfmt: Vec<BinfmtRule>,
    /// Host directories and files, in mount order.
    pub shares: Vec<Share>,
    /// Trees that [`super::Task::Fill`] brought.
    #[serde(default)]
    pub trees: Vec<Tree>,
}

/// A tree beside the container's files, mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// What to mount.
    pub source: TreeSource,
    /// Absolute path in the container; created when missing.
    pub destination: String,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// A virtio-blk device, found by its serial, or one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// The virtio serial, at most 20 ASCII characters.
    pub serial: String,
    /// GPT partition number, from 1; the whole disk when absent.
    pub partition: Option<u32>,
}

/// A `binfmt_misc` registration with flags `FOCP` as given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinfmtRule {
    /// Name under `/proc/sys/fs/binfmt_misc`, such as `qemu-aarch64`.
    pub name: String,
    /// Bytes the file must start with.
    pub magic: Vec<u8>,
    /// Which bits of [`BinfmtRule::magic`] count; as long as the magic.
    pub mask: Vec<u8>,
    /// Path of the interpreter inside the emulators image, such as `/bin/qemu-aarch64`.
    pub interpreter: String,
    /// Registration flags, such as `FOC`.
    pub flags: String,
}

/// A virtiofs share of the host, mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The device's virtiofs tag.
    pub tag: String,
    /// A path inside the share to mount (a file's name when a single file is shared);
    /// the share's root when absent.
    pub subpath: Option<String>,
    /// Absolute path in the container; created when missing.
    pub destination: String,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether an empty share is first filled with what the image has at the destination.
    #[serde(default)]
    pub copy_up: bool,
    /// Whether an empty share is first filled with a tree that [`super::Task::Fill`] brought.
    #[serde(default)]
    pub fill: Option<TreeSource>,
}

/// A tree beside the container's files, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSource {
    /// As [`super::Task::Fill`] called it.
    pub name: String,
    /// What of it; all when empty.
    pub subpath: String,
}

/// A file that the agent writes into the container's root before its first process, and
/// that does not become part of the writable layer (bind-mounted from a tmpfs).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvidedFile {
    /// Absolute path in the container, such as `/etc/hosts`.
    pub path: String,
    /// Its content; any bytes.
    #[serde(with = "super::bytes")]
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
}

/// A socket in the container that leads to the host: each connection to it is handed to one
/// [`super::Task::Relay`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvidedSocket {
    /// What relays call it: letters and digits.
    pub name: String,
    /// Absolute path in the container.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Assemble the root and start the first process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// Layers, writable disk, shares, emulators.
    pub storage: Storage,
    /// The OCI runtime specification; `process.user` counts only where [`Start::user`] is
    /// empty.
    pub spec: Spec,
    /// The image's or the user's `USER`: `name`, `uid`, `name:group`, `uid:gid`; resolved
    /// against the container's own `/etc/passwd` and `/etc/group`. Empty means
    /// `process.user` of the specification as it is; where an image has no `USER`, docker's
    /// result comes from `0`, which adds root's groups and home.
    pub user: String,
    /// Extra groups by name or number (`--group-add`).
    pub groups: Vec<String>,
    /// Hardware addresses that interfaces get before they are set up.
    #[serde(default)]
    pub hardware: Vec<super::HardwareAddress>,
    /// Network interfaces to set up; the others stay down.
    #[serde(default)]
    pub network: Vec<super::Interface>,
    /// Files provided by hull: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.
    pub files: Vec<ProvidedFile>,
    /// Sockets that lead to the host.
    #[serde(default)]
    pub sockets: Vec<ProvidedSocket>,
    /// Run the process under a minimal init that forwards signals and reaps (`--init`).
    pub init: bool,
    /// `architecture` of the image's platform in OCI's names (`amd64`, `arm64`, …), for
    /// the check of the entrypoint's ELF header.
    pub architecture: String,
    /// Standard streams.
    pub stdio: Stdio,
    /// The host's time at the moment of sending, nanoseconds since the epoch; 0 leaves the
    /// guest's clock as it is.
    pub clock_ns: u64,
    /// Fresh random bytes for the guest's pool.
    pub entropy: Vec<u8>,
}

/// Run one more process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exec {
    /// A name for signals and resizes, unique in the guest; not `main`.
    pub id: String,
    /// Arguments, environment, directory, capabilities, limits, terminal.
    pub process: Process,
    /// As in [`Start::user`].
    pub user: String,
    /// As in [`Start::groups`].
    pub groups: Vec<String>,
    /// Standard streams.
    pub stdio: Stdio,
}

/// The name of the container's first process in [`Signal`] and [`Resize`].
pub const MAIN_PROCESS: &str = "main";

/// How a process's standard streams are wired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// Whether standard input comes from the host; `/dev/null` otherwise.
    pub stdin: bool,
    /// A pseudo-terminal of this size instead of pipes; its output comes as `Stdout`.
    pub terminal: Option<WindowSize>,
}

/// A terminal's size in characters; zero means unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// Send a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// [`MAIN_PROCESS`] or an [`Exec::id`].
    pub process: String,
    /// The signal's number on Linux.
    pub signal: i32,
}

/// Tell a terminal its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// [`MAIN_PROCESS`] or an [`Exec::id`].
    pub process: String,
    /// The new size.
    pub size: WindowSize,
}

/// The agent's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Done, or begun in the case of a process or an archive.
    Ok {
        /// The process's id as the guest's first namespace sees it; 0 where none was made.
        pid: i32,
        /// Sentences a user should read, such as a wrong platform label.
        warnings: Vec<String>,
    },
    /// Not done.
    Error(AgentError),
}

/// Why the agent could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct AgentError {
    /// What kind of failure; the host turns it into docker's exit code.
    pub kind: ErrorKind,
    /// One sentence for the user.
    pub message: String,
}

/// Kinds of failure that the host treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The program does not exist in the container (exit code 127).
    NotFound,
    /// The program exists but cannot be executed (exit code 126).
    NotExecutable,
    /// The container or the process that the request names is not there.
    NoSuchProcess,
    /// The request is wrong: unknown user, bad directory, bad mount (exit code 125).
    Invalid,
    /// The guest failed: a mount, a full disk, no memory (exit code 125).
    Guest,
    /// The peers speak different versions.
    Version,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit status; 128 + n when signal n ended it.
    pub code: i32,
    /// Whether the guest's kernel killed something of the container for lack of memory.
    pub oom_killed: bool,
}
