//! What children report, and how they end.
//!
//! Purpose: turn a child's report channel, its end and the clock into answers to the host.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use guest_agent::protocol::Response;
use nix::sys::epoll::EpollFlags;

use super::connection::State;
use super::process::Role;
use super::{Agent, Source};
use crate::container::report::Report;
use crate::error::guest;
use crate::sys::task;

impl Agent {
    pub(super) fn take_reports(&mut self, key: u64) {
        loop {
            let Some(process) = self.processes.get_mut(&key) else {
                return;
            };
            let Some(setup) = process.setup.as_mut() else {
                return;
            };
            match setup.reports.receive() {
                None => return,
                Some(Report::Ready {
                    warnings,
                    terminal,
                    devpts,
                }) => {
                    setup.ready = Some(warnings);
                    if process.role == Role::Main
                        && let Some(container) = self.container.as_mut()
                    {
                        container.devpts = devpts;
                    }
                    if let Some(master) = terminal {
                        self.attach_terminal(key, master);
                    }
                }
                Some(Report::Failed(error)) => {
                    process.setup = None;
                    process.deadline = None;
                    process.failed = true;
                    let connection = process.connection.take();
                    process.close_streams();
                    if let Some(connection) = connection {
                        self.respond(connection, Err(error));
                    }
                    return;
                }
                Some(Report::Closed) => return self.started(key),
            }
        }
    }

    /// The report channel closed: the program runs, or its setup died.
    fn started(&mut self, key: u64) {
        let Some(process) = self.processes.get_mut(&key) else {
            return;
        };
        let warnings = process.setup.take().and_then(|s| s.ready);
        process.deadline = None;
        let Some(warnings) = warnings else {
            process.failed = true;
            let connection = process.connection.take();
            process.close_streams();
            let error = guest(
                "cannot start a process",
                "it did not live to run its program",
            );
            if let Some(connection) = connection {
                self.respond(connection, Err(error));
            }
            return;
        };
        let pid = process.child.pid;
        if let Some(connection) = process.connection {
            if let Some(connection) = self.connections.get_mut(&connection) {
                connection.state = State::Streaming(key);
            }
            self.respond(connection, Ok(Response::Ok { pid, warnings }));
        }
        self.pump(key);
    }

    fn attach_terminal(&mut self, key: u64, master: OwnedFd) {
        let Ok(copy) = master.try_clone() else { return };
        let Some(process) = self.processes.get_mut(&key) else {
            return;
        };
        process.attach_terminal(master, copy);
        self.watch_streams(key);
    }

    /// Waits for the streams of a process; edge-triggered, so that nothing is re-armed.
    pub(super) fn watch_streams(&mut self, key: u64) {
        let Some(process) = self.processes.get(&key) else {
            return;
        };
        let edge = EpollFlags::EPOLLET;
        let stdin = process.stdin.as_ref().map(|s| s.fd.as_fd());
        let stdout = process.stdout.as_ref().map(|s| s.fd.as_fd());
        let stderr = process.stderr.as_ref().map(|s| s.fd.as_fd());
        let watched = [
            (stdin, Source::Stdin(key), EpollFlags::EPOLLOUT),
            (stdout, Source::Stdout(key), EpollFlags::EPOLLIN),
            (stderr, Source::Stderr(key), EpollFlags::EPOLLIN),
        ];
        let ok = watched
            .into_iter()
            .filter_map(|(fd, source, events)| Some((fd?, source, events)))
            .all(|(fd, source, events)| self.watch(fd, source, events | edge).is_ok());
        if !ok && let Some(process) = self.processes.get_mut(&key) {
            // Without events a stream would hang: better that it ends.
            process.close_streams();
        }
    }

    pub(super) fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(Some(ended)) = task::reap() {
            let found = self
                .processes
                .iter()
                .find(|(_, p)| p.child.pid == ended.pid && p.exit.is_none());
            let Some(key) = found.map(|(key, _)| *key) else {
                continue;
            };
            self.take_reports(key);
            let Some(process) = self.processes.get_mut(&key) else {
                continue;
            };
            process.ended(ended.code);
            if process.role == Role::Main {
                self.container = None;
            }
            self.pump(key);
        }
        self.finish_shutdown();
    }

    pub(super) fn enforce_deadlines(&mut self) {
        let now = Instant::now();
        let due: Vec<u64> = self
            .processes
            .iter()
            .filter(|(_, p)| p.deadline.is_some_and(|at| at <= now))
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            let Some(process) = self.processes.get_mut(&key) else {
                continue;
            };
            if process.setup.is_some() {
                process.deadline = None;
                // Its end closes the report channel, which answers the host.
                let _ = task::signal(process.child.pidfd.as_fd(), libc::SIGKILL);
                continue;
            }
            process.limit_streams();
            self.pump(key);
        }
    }
}
