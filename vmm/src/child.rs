//! A child process that may be a copy of this one, which the standard library does not know.

use std::fmt;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// A child process.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    /// Once it is reaped its number may be another process's.
    end: Option<End>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Status(i32),
    Signal(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl Child {
    /// A child of this process that nobody else waits for.
    pub(crate) fn of(pid: Pid) -> Self {
        Self { pid, end: None }
    }

    /// Its number, which means nothing any more once it was waited for.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Kill it, unless it was waited for.
    pub(crate) fn kill(&self) {
        if self.end.is_none() {
            // Its number is its own until it is reaped. Whether it could be signalled or not,
            // it ends when its channel does.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }

    /// Wait for its end.
    pub(crate) fn wait(&mut self) -> nix::Result<End> {
        loop {
            if let Some(end) = self.end {
                return Ok(end);
            }
            match waitpid(self.pid, None) {
                Ok(WaitStatus::Exited(_, status)) => self.end = Some(End::Status(status)),
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    self.end = Some(End::Signal(signal as i32));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn child(script: &str) -> Child {
        #[allow(clippy::zombie_processes, reason = "it is waited for by its number")]
        let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        Child::of(Pid::from_raw(child.id() as i32))
    }

    #[test]
    fn ends_are_told_apart_and_told_again() {
        let mut ended = child("exit 3");
        assert_eq!(ended.wait(), Ok(End::Status(3)));
        ended.kill();
        assert_eq!(ended.wait(), Ok(End::Status(3)));
        let mut killed = child("exec sleep 1000");
        killed.kill();
        assert_eq!(killed.wait(), Ok(End::Signal(9)));
    }
}
