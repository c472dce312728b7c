//! Forking the children of the agent: the container's first process, later ones, its own work.
//!
//! Purpose: prepare streams and the report channel, fork into the right namespaces, and
//! hand back what the event loop watches. Nothing here waits.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use guest_agent::protocol::{Exec, Start, Stdio, Task, Work};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::unistd::pipe2;

use super::cgroup::Cgroup;
use super::launch::{Common, Launch, Streams, set_oom_score};
use super::report::{self, Reporter, Reports};
use super::work::Beside;
use super::{pty, rootfs, work};
use crate::error::{Result, guest, invalid, reason};
use crate::storage::layers::Merged;
use crate::sys::borrow;
use crate::sys::task::{self, Child};

/// A child and the agent's ends of everything that leads to it.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub child: Rc<Child>,
    /// What it reports before its program runs.
    pub reports: Reports,
    /// Where its standard input is written to.
    pub stdin: Option<OwnedFd>,
    /// Where its standard output is read from.
    pub stdout: Option<OwnedFd>,
    /// Where its standard error is read from.
    pub stderr: Option<OwnedFd>,
    /// The agent's end of its terminal, where that is known already.
    pub terminal: Option<OwnedFd>,
}

/// The started container, as later processes need it.
#[derive(Debug)]
pub struct Container {
    /// Its first process.
    pub init: Rc<Child>,
    /// Its own devpts.
    pub devpts: Option<OwnedFd>,
}

/// The agent's ends of three pipes.
#[derive(Debug, Default)]
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

fn pipes(stdin: bool) -> nix::Result<(Ends, Streams)> {
    let (child_in, agent_in) = if stdin {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        (Some(read), Some(write))
    } else {
        (None, None)
    };
    let (agent_out, child_out) = pipe2(OFlag::O_CLOEXEC)?;
    let (agent_err, child_err) = pipe2(OFlag::O_CLOEXEC)?;
    for end in agent_in.iter().chain([&agent_out, &agent_err]) {
        nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let ends = Ends {
        stdin: agent_in,
        stdout: Some(agent_out),
        stderr: Some(agent_err),
    };
    Ok((
        ends,
        Streams::Pipes {
            stdin: child_in,
            stdout: child_out,
            stderr: child_err,
        },
    ))
}

fn failed(errno: Errno) -> guest_agent::protocol::AgentError {
    guest("cannot start a process", reason(errno))
}

/// Runs `body` as the child and never returns: what it returns is a failure to report.
fn be_child(reporter: &Reporter, body: impl FnOnce() -> Result<Infallible>) -> ! {
    let Err(error) = body();
    reporter.failed(&error);
    task::exit_now(1)
}

/// Starts the container on the merged root.
pub fn start(start: &Start, common: &Common, cgroup: &Cgroup) -> Result<Spawned> {
    let process = start.spec.process.as_ref();
    let process = process.ok_or_else(|| invalid("the specification has no process"))?;
    let (ends, streams) = streams(&start.stdio).map_err(failed)?;
    let (reports, reporter) = report::channel().map_err(failed)?;
    let namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    let body = || {
        set_oom_score(process)?;
        let entered = rootfs::enter(start)?;
        let terminal = entered
            .terminal
            .map(|t| (t.master, Streams::Terminal(t.slave)));
        let (master, streams) = match (&terminal, &streams) {
            (Some((master, slave)), _) => (Some(master), slave),
            (None, Some(streams)) => (None, streams),
            (None, None) => return Err(invalid("the process has no standard streams")),
        };
        Launch {
            process,
            user: &start.user,
            groups: &start.groups,
            streams,
            common,
            architecture: Some(&start.architecture),
            create_directory: true,
            init: start.init,
            reporter: &reporter,
            master,
            devpts: entered.devpts.as_ref(),
        }
        .run()
    };
    let cgroup = Some(cgroup.directory().as_fd());
    let child = if start.init {
        // It stays what it is, so it needs memory of its own.
        match task::clone(namespaces, cgroup).map_err(failed)? {
            Some(child) => child,
            None => be_child(&reporter, body),
        }
    } else {
        // Nothing else is served before the container runs: the agent can stand still.
        borrow::spawn(namespaces, cgroup, &|| be_child(&reporter, body)).map_err(failed)?
    };
    Ok(spawned(child, reports, ends, None))
}

/// Pipes, unless there will be a terminal.
fn streams(stdio: &Stdio) -> nix::Result<(Ends, Option<Streams>)> {
    if stdio.terminal.is_some() {
        return Ok((Ends::default(), None));
    }
    let (ends, streams) = pipes(stdio.stdin)?;
    Ok((ends, Some(streams)))
}

fn spawned(child: Child, reports: Reports, ends: Ends, terminal: Option<OwnedFd>) -> Spawned {
    let Ends {
        stdin,
        stdout,
        stderr,
    } = ends;
    Spawned {
        child: Rc::new(child),
        reports,
        stdin,
        stdout,
        stderr,
        terminal,
    }
}

/// Runs one more process in the container.
pub fn exec(
    exec: &Exec,
    container: &Container,
    common: &Common,
    cgroup: &Cgroup,
) -> Result<Spawned> {
    let (ends, streams) = streams(&exec.stdio).map_err(failed)?;
    let (master, streams) = match (exec.stdio.terminal, streams) {
        (None, Some(streams)) => (None, streams),
        (size, _) => {
            let devpts = container.devpts.as_ref();
            let devpts =
                devpts.ok_or_else(|| invalid("a terminal needs a devpts mount at /dev/pts"))?;
            let terminal = pty::open(devpts.as_fd(), size.unwrap_or_default())?;
            (Some(terminal.master), Streams::Terminal(terminal.slave))
        }
    };
    let (reports, reporter) = report::channel().map_err(failed)?;
    let forked = fork_into(container, common, cgroup)?;
    let Some(child) = forked else {
        be_child(&reporter, || {
            set_oom_score(&exec.process)?;
            let namespaces = CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWCGROUP;
            setns(&container.init.pidfd, namespaces)
                .map_err(|e| guest("cannot enter the container", reason(e)))?;
            Launch {
                process: &exec.process,
                user: &exec.user,
                groups: &exec.groups,
                streams: &streams,
                common,
                architecture: None,
                create_directory: false,
                init: false,
                reporter: &reporter,
                master: None,
                devpts: None,
            }
            .run()
        })
    };
    Ok(spawned(child, reports, ends, master))
}

/// Forks into the container's PID namespace and control group.
fn fork_into(container: &Container, common: &Common, cgroup: &Cgroup) -> Result<Option<Child>> {
    // Only children are affected; the agent itself stays where it is.
    setns(&container.init.pidfd, CloneFlags::CLONE_NEWPID)
        .map_err(|e| guest("cannot enter the container", reason(e)))?;
    let mut forked = task::clone(0, Some(cgroup.directory().as_fd()));
    if forked.as_ref().err() == Some(&Errno::EBUSY) {
        // The container gave its group's controllers away: join its first process.
        forked = match Cgroup::of_process(container.init.pid) {
            Ok(directory) => task::clone(0, Some(directory.as_fd())),
            Err(_) => Err(Errno::EBUSY),
        };
    }
    if matches!(forked, Ok(None)) {
        return Ok(None);
    }
    setns(&common.pid_namespace, CloneFlags::CLONE_NEWPID)
        .map_err(|e| guest("cannot leave the container", reason(e)))?;
    forked.map_err(failed)
}

/// Starts the agent's own work, beside the container when there is one.
pub fn work(
    work: &Work,
    container: Option<&Container>,
    merged: &Merged,
    beside: Beside<'_>,
) -> Result<Spawned> {
    let takes_input = matches!(
        work.task,
        Task::Extract { .. } | Task::Fill { .. } | Task::Relay { .. }
    );
    let (ends, streams) = pipes(takes_input).map_err(failed)?;
    let (reports, reporter) = report::channel().map_err(failed)?;
    let Some(child) = task::clone(0, None).map_err(failed)? else {
        be_child(&reporter, || {
            work::run(work, container, merged, beside, streams, &reporter)
        })
    };
    drop(streams);
    Ok(spawned(child, reports, ends, None))
}
