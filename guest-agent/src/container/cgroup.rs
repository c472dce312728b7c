//! The container's control group.
//!
//! Purpose: keep the container's processes apart from the agent, limit their number, and
//! tell whether the kernel killed one of them for lack of memory.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use guest_agent::protocol::runtime::Resources;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags};
use nix::sys::stat::Mode;
use nix::unistd::mkdir;

use crate::error::{Result, guest, invalid, reason};
use crate::storage::filesystem;

/// Where the agent sees all groups.
const MOUNT: &std::ffi::CStr = c"/cgroup";

/// How long processes may take to stop; one that the kernel holds up would hold up the agent.
const FREEZE_WITHIN_MS: u16 = 2000;

/// The group that the container's processes start in.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
    memory_events: Option<File>,
}

impl Cgroup {
    /// Makes the group `name`, with every controller that the kernel has.
    pub fn create(name: &str) -> Result<Self> {
        let failed = |e: std::io::Error| guest("cannot set up control groups", e);
        filesystem::mount_at("cgroup2", MOUNT)?;
        let root = PathBuf::from("/cgroup");
        let known = fs::read_to_string(root.join("cgroup.controllers")).map_err(failed)?;
        let wanted: Vec<String> = known.split_whitespace().map(|c| format!("+{c}")).collect();
        if !wanted.is_empty() {
            fs::write(root.join("cgroup.subtree_control"), wanted.join(" ")).map_err(failed)?;
        }
        let path = root.join(name);
        match mkdir(&path, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(failed(e.into())),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(&path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let memory_events = File::open(path.join("memory.events")).ok();
        Ok(Self {
            path,
            directory,
            memory_events,
        })
    }

    /// The group's directory, to fork into.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Applies the limits that a container may have inside its guest.
    pub fn limit(&self, resources: &Resources) -> Result<()> {
        let mut values = Vec::new();
        if let Some(pids) = resources.pids {
            let limit = match pids.limit {
                1.. => pids.limit.to_string(),
                _ => "max".to_owned(),
            };
            values.push(("pids.max", limit));
        }
        for (key, value) in &resources.unified {
            if key.contains('/') {
                return Err(invalid(format!("{key:?} is not the name of a cgroup file")));
            }
            values.push((key, value.clone()));
        }
        for (key, value) in values {
            fs::write(self.path.join(key), &value)
                .map_err(|e| guest(format!("cannot set {key} to {value}"), e))?;
        }
        Ok(())
    }

    /// Whether the kernel killed one of the group for lack of memory.
    pub fn oom_killed(&self) -> bool {
        let mut text = [0u8; 512];
        let len = self
            .memory_events
            .as_ref()
            .and_then(|f| f.read_at(&mut text, 0).ok());
        let text = text.get(..len.unwrap_or(0)).unwrap_or_default();
        String::from_utf8_lossy(text)
            .lines()
            .filter_map(|line| line.strip_prefix("oom_kill "))
            .any(|count| count.trim() != "0")
    }

    /// Where it is in the agent's own tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops everything in the group and in those below it, or lets it go on; returns when
    /// that has happened.
    pub fn freeze(&self, on: bool) -> Result<()> {
        let failed = |e: std::io::Error| guest("cannot freeze the container's processes", e);
        let events = File::open(self.path.join("cgroup.events")).map_err(failed)?;
        fs::write(self.path.join("cgroup.freeze"), if on { "1" } else { "0" }).map_err(failed)?;
        let wanted = if on { "frozen 1" } else { "frozen 0" };
        loop {
            let mut text = [0u8; 256];
            let len = events.read_at(&mut text, 0).map_err(failed)?;
            let text = String::from_utf8_lossy(text.get(..len).unwrap_or_default());
            if text.lines().any(|line| line == wanted) {
                return Ok(());
            }
            // The kernel announces a change of the file as an exceptional condition.
            let mut poll = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            let changed = nix::poll::poll(&mut poll, FREEZE_WITHIN_MS);
            if changed.map_err(|e| failed(e.into()))? == 0 {
                return Err(guest(
                    "cannot freeze the container's processes",
                    "one of them does not stop",
                ));
            }
        }
    }

    /// Changes the most processes at once.
    pub fn limit_processes(&self, limit: Option<u64>) -> Result<()> {
        let value = limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string());
        fs::write(self.path.join("pids.max"), value)
            .map_err(|e| guest("cannot limit the container's processes", e))
    }

    /// Kills everything in the group and in those below it.
    pub fn kill(&self) -> Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
            .map_err(|e| guest("cannot kill the container's processes", e))
    }

    /// The group that a process is in now, for when the container has divided its own.
    pub fn of_process(pid: i32) -> Result<OwnedFd> {
        let failed = |e: std::io::Error| guest("cannot find the container's control group", e);
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(failed)?;
        let path = text
            .lines()
            .find_map(|l| l.strip_prefix("0::/"))
            .unwrap_or_default();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(&PathBuf::from("/cgroup").join(path), flags, Mode::empty())
            .map_err(|e| guest("cannot open the container's control group", reason(e)))
    }
}
