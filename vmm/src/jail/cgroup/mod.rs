//! The host's control groups around a machine's processes: what it costs the host at most.
//!
//! A machine that is to be limited gets a group of its own where the host lets its user make one: root, or
//! whoever has a part of the tree delegated. Version 2 is used where it has the controllers,
//! version 1 where the host has them there. Nobody cleans up behind a creator that was killed
//! but the next one: a group without processes can be removed by anybody at any time, and one
//! with processes by nobody.
//!
//! To move a process into a group takes the kernel up to 20 ms (it waits until no CPU looks at
//! the old groups any more), so a thread does it while the guest boots.

mod group;
mod tree;

use std::io;
use std::path::Path;
use std::thread::JoinHandle;

use crate::limits::Bounds;
use group::Group;
use tree::Tree;

/// Why nothing of the host bounds a machine. `Display` is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No group can be made.
    #[error(
        "the host's control groups cannot be used ({0}): run hull as root, or in a part of the \
         tree that is delegated to its user, as in systemd-run --user --scope -p Delegate=yes"
    )]
    Unavailable(String),
    /// A group was made, but something of it does not work.
    #[error("cannot limit the machine's processes: {0}")]
    Failed(String),
}

impl LimitError {
    fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::Failed(format!("{what} {}: {error}", path.display()))
    }
}

/// What is said of a thread that left nothing.
const NOBODY: &str = "the thread that makes its control group has ended early";

/// Makes groups and tries them without a machine. Says which controllers there are.
pub fn probe_limits() -> Result<String, LimitError> {
    let tree = Tree::find()?;
    Group::probe(&tree, &Bounds::of_a_probe())?;
    Ok(tree.describe())
}

/// Removes the group of a machine whose creator was killed, and the machine with it.
pub fn remove_limits(name: &str) {
    if let Ok(tree) = Tree::find() {
        group::remove_named(&tree, name);
    }
}

/// A machine's group, or the thread that is about to make it.
#[derive(Debug)]
pub(crate) enum Confined {
    /// A thread has it.
    Begun(JoinHandle<Result<Group, LimitError>>),
    /// It is made, or why not.
    Done(Result<Group, LimitError>),
}

impl Confined {
    /// Begin to put a process, and all that come from it, into a group. Its number must stay
    /// its own until [`Confined::settle`] returns.
    pub(crate) fn begin(process: i32, name: String, bounds: Bounds) -> Self {
        let confine = move || {
            let mut tree = Tree::find()?;
            if bounds.cpus.is_none() && bounds.memory_nodes.is_none() {
                tree.forget_cpusets();
            }
            Group::around(&tree, &name, process, &bounds)
        };
        let thread = std::thread::Builder::new().name("limits".to_owned());
        match thread.spawn(confine) {
            Ok(thread) => Self::Begun(thread),
            Err(error) => Self::Done(Err(LimitError::Failed(error.to_string()))),
        }
    }

    /// Wait for the thread.
    pub(crate) fn settle(&mut self) -> Result<&mut Group, LimitError> {
        let begun = std::mem::replace(self, Self::Done(Err(LimitError::Failed(NOBODY.to_owned()))));
        let done = match begun {
            Self::Begun(thread) => thread
                .join()
                .unwrap_or_else(|_| Err(LimitError::Failed(NOBODY.to_owned()))),
            Self::Done(done) => done,
        };
        *self = Self::Done(done);
        match self {
            Self::Done(Ok(group)) => Ok(group),
            Self::Done(Err(error)) => Err(error.clone()),
            Self::Begun(_) => Err(LimitError::Failed(NOBODY.to_owned())),
        }
    }
}
