//! Where the first process's streams and the clients meet.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use guest_agent::protocol::{AGENT_PORT, Exit, FrameKind};
use tokio::sync::{Mutex, mpsc, watch};
use vmm::Machine;

use super::network::Networking;
use super::record::Record;
use crate::container::control::ControlReply;

/// A piece of output on its way to every attached client.
pub type Chunk = Rc<(FrameKind, Vec<u8>)>;

/// Chunks that wait for one client; the next one holds the container up, as a pipe would.
const QUEUE: usize = 16;
/// Pieces of standard input that wait for the first process.
const INPUT_QUEUE: usize = 4;

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
    /// Runs that have ended.
    pub ends: u64,
    /// How the last one did.
    pub exit: Option<Exit>,
    /// There will be no other run.
    pub over: bool,
}

/// Shared by the life of the container and its clients; one thread, so no locks.
#[derive(Debug)]
pub struct Hub {
    /// The machine; `None` between two runs and once it is gone.
    pub machine: RefCell<Option<Machine>>,
    /// Its networks, as long as it has a machine.
    pub network: Mutex<Option<Networking>>,
    /// Asks the life to end the machine at once.
    pub kill: mpsc::Sender<()>,
    /// Whether the first process has a terminal: a client that vanishes then leaves
    /// standard input open.
    pub tty: bool,
    /// The container; set once the store is open, before any client comes.
    pub record: Rc<Record>,
    input: RefCell<mpsc::Sender<Input>>,
    outputs: RefCell<Vec<(u64, mpsc::Sender<Chunk>)>>,
    next: Cell<u64>,
    progress: watch::Sender<Progress>,
    end_wanted: watch::Sender<bool>,
}

impl Hub {
    /// A hub without clients, and the first run's standard input.
    pub fn new(
        machine: Machine,
        network: Networking,
        kill: mpsc::Sender<()>,
        record: Rc<Record>,
    ) -> (Rc<Self>, mpsc::Receiver<Input>) {
        let (input, queue) = mpsc::channel(INPUT_QUEUE);
        let tty = record.get().config.tty;
        let hub = Rc::new(Self {
            machine: RefCell::new(Some(machine)),
            network: Mutex::new(Some(network)),
            kill,
            tty,
            record,
            input: RefCell::new(input),
            outputs: RefCell::default(),
            next: Cell::new(0),
            progress: watch::Sender::default(),
            end_wanted: watch::Sender::default(),
        });
        (hub, queue)
    }

    /// Begins another run on another machine, whose standard input is returned.
    pub fn begin_again(&self, machine: Machine) -> mpsc::Receiver<Input> {
        let (input, queue) = mpsc::channel(INPUT_QUEUE);
        *self.input.borrow_mut() = input;
        *self.machine.borrow_mut() = Some(machine);
        queue
    }

    /// Sends standard input to the first process, as long as it reads.
    pub async fn feed(&self, input: Input) {
        let sender = self.input.borrow().clone();
        let _ = sender.send(input).await;
    }

    /// A new stream of everything the first process writes from now on.
    pub fn subscribe(&self) -> (u64, mpsc::Receiver<Chunk>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let number = self.next.get();
        self.next.set(number + 1);
        if !self.progress.borrow().over {
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

    /// The end of the current run, or of the next one between two.
    pub fn end(&self) -> impl Future<Output = Option<Exit>> + use<> {
        let mut progress = self.progress.subscribe();
        let before = progress.borrow_and_update().ends;
        async move {
            let reached = progress.wait_for(|p| p.over || p.ends > before).await;
            reached.ok().and_then(|p| p.exit.clone())
        }
    }

    /// Tells whoever started the container how that went.
    pub fn started(&self, reply: ControlReply) {
        self.progress
            .send_modify(|progress| progress.started = Some(reply));
    }

    /// Tells everybody that a run is over; output streams end after what they still hold.
    pub fn ended(&self, exit: Exit, over: bool) {
        self.outputs.borrow_mut().clear();
        self.progress.send_modify(|progress| {
            progress.ends += 1;
            progress.exit = Some(exit);
            progress.over = over;
        });
    }

    /// Tells everybody that no other run follows.
    pub fn over(&self) {
        self.outputs.borrow_mut().clear();
        self.progress.send_modify(|progress| progress.over = true);
    }

    /// Somebody wants the container to end: no restart any more.
    pub fn want_end(&self) {
        self.end_wanted.send_replace(true);
    }

    /// Whether somebody wants the container to end.
    pub fn is_end_wanted(&self) -> bool {
        *self.end_wanted.borrow()
    }

    /// Returns when somebody wants the container to end.
    pub async fn end_wanted(&self) {
        // The sender lives as long as `self`.
        let _ = self.end_wanted.subscribe().wait_for(|wanted| *wanted).await;
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
