//! One container's life in its supervisor: boot, start, streams, end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use guest_agent::protocol::{Exit, Frame, FrameKind, Request, Start};
use tokio::io::BufReader;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use vmm::{Event, Machine, MachineConfig};

use super::hub::{Hub, Input};
use super::network::Networking;
use super::{clients, frames, stop};
use crate::container::control::{ControlReply, LaunchPlan};
use crate::container::guest::{self, GuestError};
use crate::container::network::NetworkPlan;
use crate::container::record::{Config, Container, now_ns};
use crate::container::{id, logs};
use crate::store::{Paths, Store};

/// How long a guest may take until its agent listens; emulated ones on a busy host are slow.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);
/// How long the guest may take to write its disk back.
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);
const READ_BUFFER: usize = 64 << 10;
const INPUT_QUEUE: usize = 4;

/// How a life ended: what clients are told, and what is remembered.
struct End {
    exit: Exit,
    error: String,
    /// The first process never ran.
    unstarted: bool,
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

/// Lives the container's life; `channel` is the first client, `lock` says that it lives.
pub async fn live(plan: LaunchPlan, channel: StdStream, lock: OwnedFd) -> anyhow::Result<()> {
    channel.set_nonblocking(true)?;
    let mut channel = UnixStream::from_std(channel)?;
    let LaunchPlan {
        mut container,
        machine: config,
        network,
        start,
        attach,
    } = plan;
    let paths = Paths::from_env()?;
    let begun = begin(&config, network, &paths);
    let (machine, network) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let store = Store::open(&paths)?;
            let end = End::unstarted(125, error);
            remember(&store, &mut container, &end)?;
            let reply = ControlReply::Error {
                code: 125,
                message: end.error,
            };
            drop(lock);
            return Ok(frames::send(&mut channel, FrameKind::Response, &reply).await?);
        }
    };
    // The guest boots while the rest is prepared.
    let store = Store::open(&paths)?;
    container.state.start(
        nix::unistd::getpid().as_raw(),
        config.engine.as_str(),
        now_ns(),
    )?;
    container.state.machine = machine.pid();
    if let Some(network) = &network {
        container.state.ports = network.bound().to_vec();
    }
    store.update_state(&container.id, &container.state)?;
    let run_dir = store.paths().container_run_dir(&container.id);
    let socket = run_dir.join("control");
    // What a supervisor that was killed left; the lock says that nobody uses it.
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("making the control socket in {}", run_dir.display()))?;

    let (kill, kill_orders) = mpsc::channel(1);
    let (input, input_queue) = mpsc::channel(INPUT_QUEUE);
    let hub = Hub::new(machine, kill, input, container.config.tty);
    let starter = spawn_local(clients::serve_starter(channel, attach, hub.clone()));
    let acceptor = spawn_local(clients::accept(listener, hub.clone()));

    let mut body = Body {
        hub: hub.clone(),
        kill_orders,
        store,
        container,
        network,
    };
    let end = body.run(start, input_queue).await;
    let ending = body.finish(&end).await;
    drop(lock);
    if end.unstarted {
        hub.started(ControlReply::Error {
            code: end.exit.code,
            message: end.error.clone(),
        });
    }
    hub.ended(end.exit);
    let _ = starter.await;
    acceptor.abort();
    let _ = acceptor.await;
    // Waits for the last of its processes, which nobody else needs to.
    drop(ending);
    Ok(())
}

/// Binds the ports, then begins to boot the guest and to connect it, at the same time.
fn begin(
    config: &MachineConfig,
    network: Option<NetworkPlan>,
    paths: &Paths,
) -> Result<(Machine, Option<Networking>), String> {
    let network = network.map(|plan| Networking::prepare(plan, paths));
    let mut network = network.transpose().map_err(|error| error.to_string())?;
    let machine = Machine::start(config).map_err(|error| error.to_string())?;
    if let Some(network) = &mut network {
        network.begin();
    }
    Ok((machine, network))
}

struct Body {
    network: Option<Networking>,
    hub: Rc<Hub>,
    kill_orders: mpsc::Receiver<()>,
    store: Store,
    container: Container,
}

impl Body {
    async fn run(&mut self, start: Box<Start>, input: mpsc::Receiver<Input>) -> End {
        let control = match self.control() {
            Ok(control) => control,
            Err(error) => return End::unstarted(125, format!("watching the machine: {error}")),
        };
        if let Err(end) = self.boot(&control).await {
            return end;
        }
        let warnings = match self.connect().await {
            Ok(warnings) => warnings,
            Err(end) => return end,
        };
        let (reader, writer) = match self.start(start, &control, warnings).await {
            Ok(halves) => halves,
            Err(end) => return end,
        };
        let feeder = spawn_local(feed(writer, input));
        let end = self.pump(reader, &control).await;
        feeder.abort();
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
        tokio::select! {
            event = next_event(&self.hub, control) => match event {
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

    /// Waits for the networks, which were asked for when the guest began to boot.
    async fn connect(&mut self) -> Result<Vec<String>, End> {
        let Some(network) = &mut self.network else {
            return Ok(Vec::new());
        };
        tokio::select! {
            connected = network.connect(&self.hub) => {
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
        match answer {
            Ok((reader, writer, more)) => {
                warnings.extend(more);
                self.container.state.warnings.clone_from(&warnings);
                if !warnings.is_empty() {
                    // The warnings reach the user all the same.
                    let _ = self
                        .store
                        .update_state(&self.container.id, &self.container.state);
                }
                self.hub.started(ControlReply::Ok { warnings });
                Ok((reader, writer))
            }
            Err(error @ GuestError::Refused(_)) => {
                Err(End::unstarted(error.exit_code(), error.to_string()))
            }
            // The agent vanished: the machine knows why.
            Err(error) => match stopped(&self.hub, control).await {
                Some(reason) => Err(End::unstarted(125, reason)),
                None => Err(End::unstarted(125, error.to_string())),
            },
        }
    }

    /// Carries output until the first process has ended.
    async fn pump(
        &mut self,
        mut reader: BufReader<OwnedReadHalf>,
        control: &AsyncFd<OwnedFd>,
    ) -> End {
        let mut log = Log::open(&self.store, &self.container);
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
                Err(error) => match stopped(&self.hub, control).await {
                    Some(reason) => End::failed(255, reason),
                    None => End::failed(255, error),
                },
            },
            _ = self.kill_orders.recv() => End::failed(137, ""),
        }
    }

    /// Ends the machine and remembers how. What is never started again is returned while its
    /// memory is still being given back.
    async fn finish(&mut self, end: &End) -> Option<Machine> {
        let flush = !end.unstarted && !self.container.config.auto_remove && end.error.is_empty();
        if flush {
            let flushed = stop::ask(&self.hub, Request::Shutdown);
            match tokio::time::timeout(FLUSH_DEADLINE, flushed).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("hull supervisor: flushing the guest's disk: {error}"),
                Err(_) => eprintln!("hull supervisor: the guest did not flush its disk in time"),
            }
        }
        let mut ending = self.hub.machine.borrow_mut().take();
        if let Some(machine) = &mut ending {
            if self.container.config.auto_remove {
                machine.begin_kill();
            } else {
                machine.kill();
            }
        }
        let remembered = if self.container.config.auto_remove {
            self.store
                .delete_container(&self.container.id)
                .and_then(|()| self.store.remove_anonymous_volumes(&self.container.config))
                .map_err(anyhow::Error::from)
        } else {
            remember(&self.store, &mut self.container, end)
        };
        // The next command finds a free lock and repairs the record.
        if let Err(error) = remembered {
            eprintln!("hull supervisor: {error:#}");
        }
        let run_dir = self.store.paths().container_run_dir(&self.container.id);
        let _ = std::fs::remove_file(run_dir.join("control"));
        ending
    }
}

fn remember(store: &Store, container: &mut Container, end: &End) -> anyhow::Result<()> {
    let state = &mut container.state;
    state.oom_killed = end.exit.oom_killed;
    if end.unstarted {
        state.start_failed(end.exit.code, &end.error);
    } else {
        state.exit(end.exit.code, &end.error, now_ns())?;
    }
    store
        .update_state(&container.id, state)
        .context("recording the container's end")
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
        let Config { no_log, .. } = container.config;
        let path = store.paths().container_dir(&container.id).join("log");
        Self(if no_log {
            None
        } else {
            logs::Writer::open(&path).ok()
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
