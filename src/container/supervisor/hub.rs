//! Where the first process's streams and the clients meet.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use guest_agent::protocol::{AGENT_PORT, Exit, FrameKind};
use tokio::sync::{mpsc, watch};
use vmm::Machine;

use crate::container::control::ControlReply;

/// A piece of output on its way to every attached client.
pub type Chunk = Rc<(FrameKind, Vec<u8>)>;

/// Chunks that wait for one client; the next one holds the container up, as a pipe would.
const QUEUE: usize = 16;

/// Standard input on its way to the first process.
#[derive(Debug)]
pub enum Input {
    /// Bytes.
    Data(Vec<u8>),
    /// The end.
    Close,
}

/// What clients wait for.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The answer to whoever started the container.
    pub started: Option<ControlReply>,
    /// How it ended.
    pub exit: Option<Exit>,
}

/// Shared by the life of the container and its clients; one thread, so no locks.
pub struct Hub {
    /// The machine; `None` once it is gone.
    pub machine: RefCell<Option<Machine>>,
    /// Asks the life to end the machine at once.
    pub kill: mpsc::Sender<()>,
    /// Standard input of the first process.
    pub input: mpsc::Sender<Input>,
    /// Whether the first process has a terminal: a client that vanishes then leaves
    /// standard input open.
    pub tty: bool,
    outputs: RefCell<Vec<(u64, mpsc::Sender<Chunk>)>>,
    next: Cell<u64>,
    progress: watch::Sender<Progress>,
}

impl Hub {
    /// A hub without clients.
    pub fn new(
        machine: Machine,
        kill: mpsc::Sender<()>,
        input: mpsc::Sender<Input>,
        tty: bool,
    ) -> Rc<Self> {
        Rc::new(Self {
            machine: RefCell::new(Some(machine)),
            kill,
            input,
            tty,
            outputs: RefCell::default(),
            next: Cell::new(0),
            progress: watch::Sender::new(Progress::default()),
        })
    }

    /// A new stream of everything the first process writes from now on.
    pub fn subscribe(&self) -> (u64, mpsc::Receiver<Chunk>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let number = self.next.get();
        self.next.set(number + 1);
        if self.progress.borrow().exit.is_none() {
            self.outputs.borrow_mut().push((number, sender));
        }
        (number, receiver)
    }

    /// Ends a stream made by [`Hub::subscribe`].
    pub fn unsubscribe(&self, number: u64) {
        self.outputs
            .borrow_mut()
            .retain(|(other, _)| *other != number);
    }

    /// Gives a chunk to every client, waiting for the slowest.
    pub async fn broadcast(&self, chunk: Chunk) {
        let outputs = self.outputs.borrow().clone();
        for (number, output) in outputs {
            if output.send(chunk.clone()).await.is_err() {
                self.unsubscribe(number);
            }
        }
    }

    /// Follows the container's progress.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Tells whoever started the container how that went.
    pub fn started(&self, reply: ControlReply) {
        self.progress
            .send_modify(|progress| progress.started = Some(reply));
    }

    /// Tells everybody that it is over; output streams end after what they still hold.
    pub fn ended(&self, exit: Exit) {
        self.outputs.borrow_mut().clear();
        self.progress
            .send_modify(|progress| progress.exit = Some(exit));
    }

    /// A fresh connection to the agent.
    pub fn connect(&self) -> io::Result<UnixStream> {
        match &*self.machine.borrow() {
            Some(machine) => machine.connect(AGENT_PORT).map_err(io::Error::other),
            None => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the guest has ended",
            )),
        }
    }
}
