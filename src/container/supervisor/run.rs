//! One run of a container: boot, start, streams, until its first process has ended.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use guest_agent::protocol::{Exit, Frame, FrameKind, Request, Start};
use tokio::io::BufReader;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};
use vmm::{Event, Machine};

use super::hub::{Hub, Input};
use super::probe;
use crate::container::control::ControlReply;
use crate::container::guest::{self, GuestError};
use crate::container::record::{Container, now_ns};
use crate::container::{id, limits, logs};
use crate::events::Note;
use crate::frames;
use crate::store::Store;

/// How long a guest may take until its agent listens; emulated ones on a busy host are slow.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);
const READ_BUFFER: usize = 64 << 10;

/// What is said at every start of a container that is to be debugged.
const NO_JAIL: &str = "--no-jail: whoever takes over this container's guest kernel or a device of its machine can do on this host what you can";

/// How a run ended: what clients are told, and what is remembered.
pub(super) struct End {
    /// The first process's exit status, or docker's code for why there is none.
    pub exit: Exit,
    /// One sentence, empty when nothing went wrong.
    pub error: String,
    /// The first process never ran.
    pub unstarted: bool,
}

impl End {
    fn failed(code: i32, error: impl Into<String>) -> Self {
        Self {
            exit: Exit {
                code,
                oom_killed: false,
            },
            error: error.into(),
            unstarted: false,
        }
    }

    fn unstarted(code: i32, error: impl Into<String>) -> Self {
        Self {
            unstarted: true,
            ..Self::failed(code, error)
        }
    }
}

/// The task that records that a machine runs, until it is known what came of it.
pub(super) type Recorded = Option<JoinHandle<anyhow::Result<()>>>;

/// Waits until it is recorded that the machine runs.
pub(super) async fn settle(recorded: &mut Recorded) -> anyhow::Result<()> {
    match recorded.take() {
        Some(task) => task.await?,
        None => Ok(()),
    }
}

/// A machine that is booting, on its way to an end.
pub(super) struct Run<'a> {
    pub hub: &'a Rc<Hub>,
    pub kill_orders: &'a mut mpsc::Receiver<()>,
    /// The task that records that the machine runs.
    pub recorded: &'a mut Recorded,
}

impl Run<'_> {
    /// Runs to the end.
    pub async fn follow(&mut self, start: Box<Start>, input: mpsc::Receiver<Input>) -> End {
        let control = match self.control() {
            Ok(control) => control,
            Err(error) => return End::unstarted(125, format!("watching the machine: {error}")),
        };
        if let Err(end) = self.boot(&control).await {
            return end;
        }
        let mut warnings = match self.connect().await {
            Ok(warnings) => warnings,
            Err(end) => return end,
        };
        warnings.extend(self.unlimited());
        let (reader, writer) = match self.start(start, &control, warnings).await {
            Ok(halves) => halves,
            Err(end) => return end,
        };
        let helpers = [
            spawn_local(feed(writer, input)),
            spawn_local(probe::watch(self.hub.clone())),
        ];
        let end = self.pump(reader, &control).await;
        for helper in helpers {
            helper.abort();
        }
        end
    }

    fn control(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let machine = self.hub.machine.borrow();
        let machine = machine.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let descriptor = machine.control_fd().try_clone_to_owned()?;
        // SAFETY: the registration must end before the descriptor is closed; the `OwnedFd`
        // moves into the `AsyncFd`, which deregisters it before it drops it, and nobody else
        // knows this duplicate's number.
        Ok(unsafe { AsyncFd::register(descriptor) }?)
    }

    async fn boot(&mut self, control: &AsyncFd<OwnedFd>) -> Result<(), End> {
        let waited = |machine: &Option<Machine>| machine.as_ref().is_some_and(Machine::is_ready);
        if waited(&self.hub.machine.borrow()) {
            return Ok(());
        }
        tokio::select! {
            event = next_event(self.hub, control) => match event {
                Ok(Event::Ready) => Ok(()),
                Ok(Event::Stopped(reason)) => {
                    Err(End::unstarted(125, format!("the guest did not boot: {reason}")))
                }
                Err(error) => Err(End::unstarted(125, format!("the machine was lost: {error}"))),
            },
            _ = self.kill_orders.recv() => Err(End::unstarted(137, "killed before it started")),
            () = tokio::time::sleep(BOOT_DEADLINE) => {
                let seconds = BOOT_DEADLINE.as_secs();
                Err(End::unstarted(125, format!("the guest's agent was not ready after {seconds} s")))
            }
        }
    }

    /// What the user asked for that the host does not keep.
    fn unlimited(&self) -> Option<String> {
        let config = &self.hub.record.get().config;
        limits::not_kept(config, self.hub.machine.borrow_mut().as_mut()?)
    }

    /// Waits for the networks, which were asked for when the guest began to boot.
    async fn connect(&mut self) -> Result<Vec<String>, End> {
        let mut network = self.hub.network.lock().await;
        let Some(network) = network.as_mut() else {
            return Ok(Vec::new());
        };
        tokio::select! {
            connected = network.connect(self.hub) => {
                connected.map_err(|error| End::unstarted(125, error))
            }
            _ = self.kill_orders.recv() => Err(End::unstarted(137, "killed before it started")),
        }
    }

    async fn start(
        &mut self,
        mut start: Box<Start>,
        control: &AsyncFd<OwnedFd>,
        mut warnings: Vec<String>,
    ) -> Result<(BufReader<OwnedReadHalf>, OwnedWriteHalf), End> {
        if self.hub.record.get().config.no_jail {
            warnings.insert(0, NO_JAIL.to_owned());
        }
        start.clock_ns = u64::try_from(now_ns()).unwrap_or_default();
        start.entropy = id::random_bytes::<32>().map(Vec::from).unwrap_or_default();
        let asked = async {
            let stream = self.hub.connect()?;
            stream.set_nonblocking(true)?;
            let (reader, mut writer) = UnixStream::from_std(stream)?.into_split();
            let mut reader = BufReader::with_capacity(READ_BUFFER, reader);
            let request = guest::encode(Request::Start(start))?;
            frames::write(&mut writer, FrameKind::Request, &request).await?;
            let frame = frames::read(&mut reader).await?.ok_or(GuestError::Gone)?;
            let warnings = guest::decode(&frame.payload)?;
            Ok::<_, GuestError>((reader, writer, warnings))
        };
        let answer = tokio::select! {
            answer = asked => answer,
            _ = self.kill_orders.recv() => {
                return Err(End::unstarted(137, "killed before it started"));
            }
        };
        if let Err(error) = settle(self.recorded).await {
            return Err(End::unstarted(125, format!("{error:#}")));
        }
        match answer {
            Ok((reader, writer, more)) => {
                warnings.extend(more);
                let reply = ControlReply::Ok {
                    warnings: warnings.clone(),
                    boot: self.boot_trace(),
                };
                // Whoever waits for the start waits for nothing else, if possible.
                if warnings.is_empty() {
                    self.hub.started(reply);
                    self.note_start(warnings);
                } else {
                    self.note_start(warnings);
                    self.hub.started(reply);
                }
                Ok((reader, writer))
            }
            Err(error @ GuestError::Refused(_)) => {
                Err(End::unstarted(error.exit_code(), error.to_string()))
            }
            // The agent vanished: the machine knows why.
            Err(error) => match stopped(self.hub, control).await {
                Some(reason) => Err(End::unstarted(125, reason)),
                None => Err(End::unstarted(125, error.to_string())),
            },
        }
    }

    fn boot_trace(&self) -> Option<Box<vmm::BootTrace>> {
        self.hub.machine.borrow_mut().as_mut()?.take_boot_trace()
    }

    fn note_start(&self, warnings: Vec<String>) {
        let noted = self.hub.record.change(&[Note::new("start")], |state| {
            state.warnings = warnings;
            anyhow::Ok(())
        });
        // The container runs all the same.
        if let Err(error) = noted {
            eprintln!("hull supervisor: {error:#}");
        }
    }

    /// Carries output until the first process has ended.
    async fn pump(
        &mut self,
        mut reader: BufReader<OwnedReadHalf>,
        control: &AsyncFd<OwnedFd>,
    ) -> End {
        let mut log = Log::open(self.hub.record.store(), &self.hub.record.get());
        let hub = self.hub.clone();
        let output = async {
            loop {
                match frames::read(&mut reader).await {
                    Ok(Some(Frame {
                        kind: FrameKind::Exit,
                        payload,
                    })) => {
                        return serde_json::from_slice::<Exit>(&payload).map_err(|e| e.to_string());
                    }
                    Ok(Some(Frame { kind, payload })) => {
                        log.append(kind, &payload);
                        hub.broadcast(Rc::new((kind, payload))).await;
                    }
                    Ok(None) => return Err("the guest's agent hung up".to_owned()),
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        tokio::pin!(output);
        tokio::select! {
            exit = &mut output => match exit {
                Ok(exit) => End { exit, error: String::new(), unstarted: false },
                Err(error) => match stopped(self.hub, control).await {
                    Some(reason) => End::failed(255, reason),
                    None => End::failed(255, error),
                },
            },
            _ = self.kill_orders.recv() => End::failed(137, ""),
        }
    }
}

/// Carries standard input to the first process until either is at its end.
async fn feed(mut writer: OwnedWriteHalf, mut input: mpsc::Receiver<Input>) {
    while let Some(message) = input.recv().await {
        let written = match &message {
            Input::Data(bytes) => frames::write(&mut writer, FrameKind::Stdin, bytes).await,
            Input::Close => frames::write(&mut writer, FrameKind::StdinClose, &[]).await,
        };
        if written.is_err() {
            return;
        }
    }
}

async fn next_event(hub: &Hub, control: &AsyncFd<OwnedFd>) -> io::Result<Event> {
    let mut guard = control.readable().await?;
    guard.clear_ready();
    match hub.machine.borrow_mut().as_mut() {
        Some(machine) => machine.next_event().map_err(io::Error::other),
        None => Err(io::ErrorKind::NotConnected.into()),
    }
}

/// Why the machine stopped, if it did or does so soon.
async fn stopped(hub: &Hub, control: &AsyncFd<OwnedFd>) -> Option<String> {
    let soon = Duration::from_secs(2);
    match tokio::time::timeout(soon, next_event(hub, control)).await {
        Ok(Ok(Event::Stopped(reason))) => Some(reason.to_string()),
        Ok(Err(error)) => Some(format!("the machine was lost: {error}")),
        _ => None,
    }
}

/// The log, as long as it can be written.
struct Log(Option<logs::Writer>);

impl Log {
    fn open(store: &Store, container: &Container) -> Self {
        let path = store.paths().container_dir(&container.id).join("log");
        Self(if container.config.no_log {
            None
        } else {
            let size = container.config.log_size.unwrap_or(logs::ROTATE_AT);
            logs::Writer::open(&path, size).ok()
        })
    }

    /// A full disk must not stop the container: the log ends there.
    fn append(&mut self, kind: FrameKind, bytes: &[u8]) {
        let stream = match kind {
            FrameKind::Stderr => logs::Stream::Stderr,
            _ => logs::Stream::Stdout,
        };
        if let Some(writer) = &mut self.0
            && let Err(error) = writer.append(stream, now_ns(), bytes)
        {
            eprintln!("hull supervisor: the container's log ends here: {error}");
            self.0 = None;
        }
    }
}
