//! From a forked child in the container's namespaces to the program itself.
//!
//! Purpose: user, streams, limits, capabilities, directory and environment of one process,
//! in runc's order, then exec. The same for the first process and for later ones.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;

use guest_agent::parse::accounts::Identity;
use guest_agent::protocol::runtime::{Process, Rlimit};
use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, chdir, execve, fchown, setsid};

use super::caps::Wanted;
use super::report::Reporter;
use super::{init, program, user};
use crate::error::{Result, guest, invalid, reason};
use crate::sys::{cred, io, task};

/// Where the process's standard streams go.
#[derive(Debug)]
pub enum Streams {
    /// Pipes to the agent; without an input, `/dev/null`.
    Pipes {
        /// Standard input.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A terminal for all three.
    Terminal(OwnedFd),
}

/// What the agent has that every child needs.
#[derive(Debug)]
pub struct Common {
    /// `/dev/null`, for a standard input that nobody feeds.
    pub null: OwnedFd,
    /// The agent's own PID namespace, to come back to after forking into another.
    pub pid_namespace: OwnedFd,
    /// The kernel's own limit of open files, soft and hard; the agent raised its own.
    pub open_files: (u64, u64),
}

/// One process to run.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Arguments, environment, directory, capabilities, limits.
    pub process: &'a Process,
    /// `USER`; see the protocol.
    pub user: &'a str,
    /// Extra groups.
    pub groups: &'a [String],
    /// Standard streams.
    pub streams: &'a Streams,
    /// The agent's share.
    pub common: &'a Common,
    /// For the check of the program's ELF header; not checked when absent.
    pub architecture: Option<&'a str>,
    /// Whether to create the working directory.
    pub create_directory: bool,
    /// Whether to stay as a minimal init and run the program as its child.
    pub init: bool,
    /// Tells the agent when the program is about to run.
    pub reporter: &'a Reporter,
    /// The agent's end of the terminal, to be handed over.
    pub master: Option<&'a OwnedFd>,
    /// The container's devpts, to be handed over.
    pub devpts: Option<&'a OwnedFd>,
}

/// Sets how readily the out-of-memory killer takes this process; the agent itself, as the
/// guest's first process, it never takes. The agent's `/proc` must still be in place.
pub fn set_oom_score(process: &Process) -> Result<()> {
    match process.oom_score_adj.unwrap_or(0) {
        0 => Ok(()),
        score => std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|e| guest("cannot set the out-of-memory score", e)),
    }
}

impl Launch<'_> {
    /// Runs the program; returns only when that failed.
    pub fn run(self) -> Result<Infallible> {
        let process = self.process;
        let args = c_strings(&process.args, "argument")?;
        let mut env = c_strings(&process.env, "environment variable")?;
        let has_home = env.iter().any(|e| e.as_bytes().starts_with(b"HOME="));
        let identity = user::resolve(self.user, self.groups, &process.user, !has_home)?;
        if !has_home {
            env.extend(CString::new(format!("HOME={}", identity.home)));
        }

        self.connect(&identity)?;
        self.set_limits()?;
        let capabilities = Wanted::new(&process.capabilities)?;
        capabilities.before_user()?;
        let entered = self.enter_directory();
        user::become_identity(&identity)?;
        if let Err(errno) = entered {
            // Root may be refused where the user is not, on a share of the host.
            let directory = &process.cwd;
            chdir(directory).map_err(|_| {
                let path = directory.display();
                invalid(format!(
                    "cannot change to working directory {path}: {}",
                    reason(errno)
                ))
            })?;
        }
        capabilities.after_user()?;
        if process.no_new_privileges {
            cred::set_no_new_privileges()
                .map_err(|e| guest("cannot set no_new_privs", reason(e)))?;
        }
        umask(Mode::from_bits_truncate(
            process.user.umask.unwrap_or(0o022),
        ));

        let name = process.args.first();
        let name = name.ok_or_else(|| invalid("no command specified"))?;
        let path = process
            .env
            .iter()
            .rev()
            .find_map(|e| e.strip_prefix("PATH="));
        let file = program::find(name, path)?;
        let shown = file.to_string_lossy().into_owned();
        let mut warnings = Vec::new();
        if let Some(architecture) = self.architecture
            && let Some(binary) = program::inspect(&shown)
        {
            warnings.extend(program::mismatch(&binary, architecture));
        }
        if self.init {
            init::stay(matches!(self.streams, Streams::Terminal(_)))?;
        }
        self.reporter
            .ready(&warnings, self.master, self.devpts)
            .map_err(|e| guest("cannot report to the agent", reason(e)))?;
        task::close_on_exec_from(3).map_err(|e| guest("cannot close descriptors", reason(e)))?;
        task::reset_signals().map_err(|e| guest("cannot reset signals", reason(e)))?;
        let Err(errno) = execve(&file, &args, &env);
        Err(program::explain(
            &shown,
            errno,
            self.architecture.unwrap_or_default(),
        ))
    }

    /// A session of its own, and the standard streams.
    fn connect(&self, identity: &Identity) -> Result<()> {
        let failed = |e| guest("cannot connect the standard streams", reason(e));
        setsid().map_err(failed)?;
        let streams: [BorrowedFd<'_>; 3] = match self.streams {
            Streams::Pipes {
                stdin,
                stdout,
                stderr,
            } => {
                let stdin = stdin.as_ref().unwrap_or(&self.common.null);
                [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
            }
            Streams::Terminal(slave) => {
                io::take_terminal(slave.as_fd()).map_err(failed)?;
                [slave.as_fd(); 3]
            }
        };
        let owner = Uid::from_raw(identity.uid);
        for (number, stream) in (0..).zip(streams) {
            io::replace_standard(stream, number).map_err(failed)?;
        }
        if !owner.is_root() {
            // So that the user can open /dev/stdout and the like anew.
            match self.streams {
                Streams::Terminal(slave) => fchown(slave, Some(owner), None).map_err(failed)?,
                Streams::Pipes {
                    stdin,
                    stdout,
                    stderr,
                } => {
                    for pipe in stdin.iter().chain([stdout, stderr]) {
                        fchown(pipe, Some(owner), None).map_err(failed)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn set_limits(&self) -> Result<()> {
        let limits = &self.process.rlimits;
        let failed = |e| guest("cannot set resource limits", reason(e));
        if !limits.iter().any(|l| l.kind == "RLIMIT_NOFILE") {
            let (soft, hard) = self.common.open_files;
            cred::set_limit(libc::RLIMIT_NOFILE, soft, hard).map_err(failed)?;
        }
        for limit in limits {
            let Rlimit { kind, soft, hard } = limit;
            let number =
                limit_number(kind).ok_or_else(|| invalid(format!("unknown limit {kind}")))?;
            cred::set_limit(number, *soft, *hard).map_err(|e| {
                invalid(format!(
                    "cannot set limit {kind} to {soft}:{hard}: {}",
                    reason(e)
                ))
            })?;
        }
        Ok(())
    }

    fn enter_directory(&self) -> nix::Result<()> {
        let directory = &self.process.cwd;
        if directory.as_os_str().is_empty() {
            return Ok(());
        }
        match chdir(directory) {
            Err(Errno::ENOENT) if self.create_directory => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(directory)
                    .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
                chdir(directory)
            }
            other => other,
        }
    }
}

fn c_strings(texts: &[String], what: &str) -> Result<Vec<CString>> {
    texts
        .iter()
        .map(|text| {
            CString::new(text.as_str())
                .map_err(|_| invalid(format!("{what} {text:?} contains a zero byte")))
        })
        .collect()
}

fn limit_number(kind: &str) -> Option<u32> {
    Some(match kind {
        "RLIMIT_CPU" => libc::RLIMIT_CPU,
        "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
        "RLIMIT_DATA" => libc::RLIMIT_DATA,
        "RLIMIT_STACK" => libc::RLIMIT_STACK,
        "RLIMIT_CORE" => libc::RLIMIT_CORE,
        "RLIMIT_RSS" => libc::RLIMIT_RSS,
        "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
        "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
        "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "RLIMIT_AS" => libc::RLIMIT_AS,
        "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
        "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => libc::RLIMIT_NICE,
        "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
        _ => return None,
    })
}
