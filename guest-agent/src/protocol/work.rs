//! What the agent does by itself for the host: reading and writing the container's files, and
//! saying how it is.
//!
//! After a successful [`super::Request::Work`] the connection is the work's standard streams:
//! an archive or JSON comes as `Stdout`, an archive goes as `Stdin`, what went wrong comes as
//! `Stderr`, and at last an `Exit` that is 0 when all went well.

use serde::{Deserialize, Serialize};

use super::Storage;

/// Something to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    /// What to mount when the guest has not started a container; ignored otherwise.
    pub storage: Storage,
    /// What to do.
    pub task: Task,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// The merged root, without what is mounted in it, as an archive.
    Export,
    /// What is at a path: an [`Option`] of [`PathStat`] as JSON.
    Stat {
        /// In the container.
        path: String,
        /// Look at what a symbolic link leads to.
        follow: bool,
    },
    /// A file or a directory and all in it as an archive.
    Archive {
        /// In the container.
        path: String,
        /// Take what a symbolic link leads to.
        follow: bool,
        /// Its name in the archive.
        name: String,
    },
    /// An archive's files into a directory.
    Extract {
        /// In the container.
        directory: String,
        /// Keep the archive's owners; otherwise everything becomes root's.
        owners: bool,
    },
    /// What the writable layer changes, a [`Change`] as JSON per line, sorted.
    Changes,
    /// What the writable layer changes as an image layer's archive.
    Layer(Layering),
    /// An archive as a tree beside the container's files, for [`super::Tree`]; one of the same
    /// name is replaced.
    Fill {
        /// Letters and digits.
        name: String,
    },
    /// Waits for a connection to one of [`super::Start::sockets`] and becomes it: what comes
    /// from it is `Stdout`, what goes to it `Stdin`. It ends with the connection, or with
    /// `StdinClose`.
    Relay {
        /// The socket's name.
        socket: String,
    },
    /// The container's processes, a [`ProcessInfo`] as JSON per line.
    Processes,
    /// What the container uses: a [`Usage`] as JSON.
    Usage,
    /// Lines of the container's text files change; one that is not there stays so.
    Amend(Vec<Amendment>),
}

/// A change of a text file that leaves alone what somebody else wrote into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    /// In the container.
    pub path: String,
    /// Lines that go, each once where it is there.
    pub remove: Vec<String>,
    /// Lines that come at the end.
    pub add: Vec<String>,
}

/// How a layer is made of what was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layering {
    /// No file's time is later than this, in seconds since 1970: not in the archive, and not
    /// in the writable layer either.
    pub latest: Option<i64>,
    /// Absolute paths of empty files and directories that exist only because something was
    /// mounted there; they are removed first.
    pub stubs: Vec<String>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStat {
    /// The last part of the path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// As in `st_mode`.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Where a symbolic link leads.
    pub link_target: String,
}

impl PathStat {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }
}

/// A difference between a container and its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Absolute, in the container.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It differs.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// A process of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its number in the container.
    pub pid: i32,
    /// Its parent's number in the container; 0 when that is outside.
    pub parent: i32,
    /// Effective user.
    pub uid: u32,
    /// Seconds since the guest's start at which it began.
    pub started: u64,
    /// Milliseconds of processor time.
    pub cpu_ms: u64,
    /// Its terminal's number, as in `pts/0`; none when negative.
    pub tty: i32,
    /// As in `ps`: R, S, D, Z, T.
    pub state: String,
    /// Resident bytes.
    pub resident: u64,
    /// Bytes of address space.
    pub virtual_size: u64,
    /// Name of the program.
    pub command: String,
    /// Program and arguments.
    pub arguments: String,
    /// Seconds since the guest's start, now.
    pub uptime: u64,
}

/// What the container uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Microseconds of processor time since the start.
    pub cpu_us: u64,
    /// Processors of the guest.
    pub cpus: u32,
    /// Bytes of memory in use, without what the kernel would give back at once.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes received over networks.
    pub received: u64,
    /// Bytes sent over networks.
    pub sent: u64,
    /// Bytes read from disks.
    pub read: u64,
    /// Bytes written to disks.
    pub written: u64,
}
