//! SSH agents of the host, held out to commands of a build.
//!
//! A command can list the keys and have something signed, as long as it runs. Everything else
//! that agents do (take keys, give them up, lock themselves) is refused here: a guest is not
//! trusted with it. The key itself never leaves the agent.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use guest_agent::protocol::{AGENT_PORT, ProvidedSocket, Request, Storage, Task, Work};
use vmm::Machine;

use crate::container::files::{Input, Output};
use crate::container::guest;

/// The longest message of an agent, OpenSSH's own limit.
const MAX_MESSAGE: usize = 256 << 10;
/// Connections of one command that are served at the same time; more wait.
const MAX_CONNECTIONS: usize = 16;

/// What a command may ask: which keys there are, and to sign with one.
const ALLOWED: [u8; 2] = [11, 13];
/// The answer to everything else.
const FAILURE: [u8; 1] = [5];

/// An agent that a command gets.
#[derive(Debug, Clone)]
pub struct Forwarded {
    /// Where in the guest.
    pub socket: ProvidedSocket,
    /// Where on the host.
    pub agent: PathBuf,
}

/// The connections of one command to agents.
#[derive(Debug)]
pub struct Relays<'a> {
    machine: &'a Machine,
    storage: &'a Storage,
    ended: AtomicBool,
    serving: AtomicUsize,
    /// What to end when the command has ended.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    ends: BTreeMap<u64, End>,
    next: u64,
}

#[derive(Debug)]
enum End {
    Guest(Arc<Mutex<Input>>),
    Agent(UnixStream),
}

impl End {
    fn end(&self) {
        // What cannot be told that it is the end has ended.
        match self {
            Self::Guest(input) => drop(lock(input).close()),
            Self::Agent(stream) => drop(stream.shutdown(Shutdown::Both)),
        }
    }
}

/// A connection of the guest.
struct Relay<'a> {
    input: Arc<Mutex<Input>>,
    output: Output,
    _noted: Noted<'a>,
}

/// Something that is to be ended as long as this is there.
struct Noted<'a> {
    open: &'a Mutex<Open>,
    key: u64,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        lock(self.open).ends.remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Relays<'a> {
    /// None yet.
    pub fn new(machine: &'a Machine, storage: &'a Storage) -> Self {
        Self {
            machine,
            storage,
            ended: AtomicBool::new(false),
            serving: AtomicUsize::new(0),
            open: Mutex::default(),
        }
    }

    /// Serves a socket of the command that runs now, until [`Relays::end`].
    pub fn serve<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        forwarded: &'env Forwarded,
    ) -> io::Result<()> {
        let thread = std::thread::Builder::new().name("ssh agent".to_owned());
        let accept = move || {
            while let Some(mut relay) = self.relay(&forwarded.socket.name) {
                // It is somebody's connection once something comes.
                let Ok(Some(first)) = read_message(&mut relay.output) else {
                    finish(&relay.input, &mut relay.output);
                    continue;
                };
                let serve = move || {
                    // Whatever breaks, it is this one connection's end.
                    let _ = self.answer(first, &mut relay, &forwarded.agent);
                    finish(&relay.input, &mut relay.output);
                };
                if self.serving.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
                    serve();
                    continue;
                }
                self.serving.fetch_add(1, Ordering::Relaxed);
                let thread = std::thread::Builder::new().name("ssh agent".to_owned());
                let served = move || {
                    serve();
                    self.serving.fetch_sub(1, Ordering::Relaxed);
                };
                if thread.spawn_scoped(scope, served).is_err() {
                    return;
                }
            }
        };
        thread.spawn_scoped(scope, accept).map(drop)
    }

    /// Ends all connections; the threads of the scope come to their end then.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        for end in lock(&self.open).ends.values() {
            end.end();
        }
    }

    /// Remembers something to end until it is dropped; none when that is at once.
    fn note(&self, end: End) -> Option<Noted<'_>> {
        let mut open = lock(&self.open);
        if self.ended.load(Ordering::Relaxed) {
            end.end();
            return None;
        }
        let key = open.next;
        open.next += 1;
        open.ends.insert(key, end);
        Some(Noted {
            open: &self.open,
            key,
        })
    }

    /// A connection of the guest that is still to come.
    fn relay(&self, socket: &str) -> Option<Relay<'_>> {
        let mut stream = self.machine.connect(AGENT_PORT).ok()?;
        let task = Task::Relay {
            socket: socket.to_owned(),
        };
        let storage = self.storage.clone();
        guest::ask(&mut stream, Request::Work(Box::new(Work { storage, task }))).ok()?;
        let input = Arc::new(Mutex::new(Input(stream.try_clone().ok()?)));
        let mut output = Output::new(stream);
        match self.note(End::Guest(Arc::clone(&input))) {
            Some(noted) => Some(Relay {
                input,
                output,
                _noted: noted,
            }),
            None => {
                finish(&input, &mut output);
                None
            }
        }
    }

    fn answer(&self, first: Vec<u8>, relay: &mut Relay<'_>, path: &Path) -> io::Result<()> {
        let mut agent = UnixStream::connect(path)?;
        let Some(_noted) = self.note(End::Agent(agent.try_clone()?)) else {
            return Ok(());
        };
        let mut next = Some(first);
        while let Some(question) = next {
            let answer = pass(&question, &mut agent)?;
            let mut message = u32::try_from(answer.len())
                .unwrap_or(0)
                .to_be_bytes()
                .to_vec();
            message.extend(answer);
            lock(&relay.input).write_all(&message)?;
            next = read_message(&mut relay.output)?;
        }
        Ok(())
    }
}

/// Closes a connection and waits until the guest has.
fn finish(input: &Mutex<Input>, output: &mut Output) {
    // A guest that is gone has closed it.
    let _ = lock(input).close();
    let _ = output.finish();
}

/// The agent's answer to a question, if that is one that may be asked.
fn pass(question: &[u8], agent: &mut (impl Read + Write)) -> io::Result<Vec<u8>> {
    if !question.first().is_some_and(|kind| ALLOWED.contains(kind)) {
        return Ok(FAILURE.to_vec());
    }
    let length = u32::try_from(question.len()).map_err(io::Error::other)?;
    agent.write_all(&length.to_be_bytes())?;
    agent.write_all(question)?;
    read_message(agent)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The next message; none at the end.
fn read_message(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if input.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut length[1..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    input.read_exact(&mut message)?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_listing_and_signing_reach_the_agent() {
        let (mut ours, mut agent) = UnixStream::pair().unwrap();
        let answering = std::thread::spawn(move || {
            let question = read_message(&mut agent).unwrap().unwrap();
            agent.write_all(&[0, 0, 0, 2, 12, 7]).unwrap();
            (question, agent)
        });
        assert_eq!(pass(&[11], &mut ours).unwrap(), [12, 7]);
        let (question, mut agent) = answering.join().unwrap();
        assert_eq!(question, [11]);
        for kind in (0..=255).filter(|kind| !ALLOWED.contains(kind)) {
            assert_eq!(pass(&[kind, 1, 2], &mut ours).unwrap(), FAILURE);
        }
        drop(ours);
        assert!(read_message(&mut agent).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_messages_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = bytes.as_slice();
            while let Ok(Some(message)) = read_message(&mut reader) {
                prop_assert!(!message.is_empty() && message.len() < bytes.len());
            }
        }
    }
}
