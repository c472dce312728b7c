//! A container's life in its supervisor: one run after the other, as its restart policy has it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use guest_agent::protocol::{FrameKind, Request, Start};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{spawn_blocking, spawn_local};
use vmm::{Machine, MachineConfig, StartError};

use super::hub::{Hub, Input};
use super::network::Networking;
use super::record::Record;
use super::run::{End, Recorded, Run, settle};
use super::{First, FirstMachine, clients, signals, stop};
use crate::container::control::{Attach, ControlReply, LaunchPlan};
use crate::container::network::NetworkPlan;
use crate::container::record::now_ns;
use crate::container::restart::BackOff;
use crate::container::state::{BadTransition, State};
use crate::container::{launch, standby};
use crate::events::Note;
use crate::frames;
use crate::store::{Paths, Store};

/// How long the guest may take to write its disk back.
const FLUSH_DEADLINE: Duration = Duration::from_secs(60);

/// How long after a start its processor time is left to the container.
const STANDBY_AFTER: Duration = Duration::from_millis(300);

/// The same after its end.
const STANDBY_AFTER_END: Duration = Duration::from_millis(20);

/// Lives the container's life; `channel` is the first client, `lock` says that it lives.
pub async fn live(
    plan: LaunchPlan,
    first: FirstMachine,
    channel: StdStream,
    lock: OwnedFd,
) -> anyhow::Result<()> {
    channel.set_nonblocking(true)?;
    let mut channel = UnixStream::from_std(channel)?;
    let LaunchPlan {
        container,
        machine: config,
        network,
        mut start,
        attach,
    } = plan;
    let paths = Paths::from_env()?;
    let (mut opened, mut assembling) = (None, None);
    let in_first = |config: &MachineConfig| {
        Ok(match first.start(config, &mut start)? {
            First::New(machine) => machine,
            First::Adopted(adopted) => {
                (opened, assembling) = (Some(adopted.store), adopted.assembling);
                adopted.machine
            }
        })
    };
    let (machine, network) = match begin(in_first, &config, network, &paths) {
        Ok(begun) => begun,
        Err(message) => {
            let record = Record::new(Store::open(&paths)?, container);
            record.change(&[], |state| {
                state.start_failed(125, &message);
                anyhow::Ok(())
            })?;
            let reply = ControlReply::Error { code: 125, message };
            drop(lock);
            return Ok(frames::send(&mut channel, FrameKind::Response, &reply).await?);
        }
    };
    // The guest boots while the rest is prepared.
    let store = match opened {
        Some(store) => store,
        None => Store::open(&paths)?,
    };
    let run_dir = store.paths().container_run_dir(&container.id);
    let record = Rc::new(Record::new(store, container));
    let began = began(&record, &machine, config.engine, &network);
    let socket = run_dir.join("control");
    // What a supervisor that was killed left; the lock says that nobody uses it.
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("making the control socket in {}", run_dir.display()))?;

    let (kill, kill_orders) = mpsc::channel(1);
    let (hub, input) = Hub::new(machine, network, kill, record);
    let starter = spawn_local(clients::serve_starter(channel, attach, hub.clone()));
    let acceptor = spawn_local(clients::accept(listener, hub.clone()));
    let watcher = spawn_local(signals::watch(hub.clone()));

    let mut life = Life {
        hub: hub.clone(),
        kill_orders,
        back_off: BackOff::default(),
    };
    let renewal = spawn_local(standby_later(hub.clone()));
    let ending = life.go_on(start, input, Some(spawn_local(began))).await;
    let _ = std::fs::remove_file(&socket);
    drop(lock);
    life.tell_end(ending.end);
    let _ = starter.await;
    drop(assembling);
    let renewed = renewal.is_finished();
    for task in [acceptor, watcher, renewal] {
        task.abort();
        let _ = task.await;
    }
    if !renewed && may_be_followed(&hub) {
        // The command line ends in this time.
        tokio::time::sleep(STANDBY_AFTER_END).await;
        renew_standby(&paths);
    }
    // Waits for the last of its processes, which nobody else needs to.
    drop(ending.machine);
    Ok(())
}

/// Binds the ports, then begins to boot the guest and to connect it, at the same time. The
/// first machine's process waits already.
fn begin(
    start: impl FnOnce(&MachineConfig) -> Result<Machine, StartError>,
    config: &MachineConfig,
    network: NetworkPlan,
    paths: &Paths,
) -> Result<(Machine, Networking), String> {
    let mut network = Networking::prepare(network, paths).map_err(|error| error.to_string())?;
    let machine = start(config).map_err(|error| error.to_string())?;
    network.begin();
    Ok((machine, network))
}

/// Whether the container has started and the next one may be like it.
fn may_be_followed(hub: &Hub) -> bool {
    let progress = hub.progress();
    let started = matches!(progress.borrow().started, Some(ControlReply::Ok { .. }));
    started && standby::may_suit(&hub.record.get().config)
}

/// Lets a guest wait for the next container, when this one has had its time to start.
async fn standby_later(hub: Rc<Hub>) {
    let _ = hub.progress().wait_for(|p| p.started.is_some()).await;
    tokio::time::sleep(STANDBY_AFTER).await;
    if may_be_followed(&hub) {
        let paths = hub.record.store().paths().clone();
        let _ = spawn_blocking(move || renew_standby(&paths)).await;
    }
}

fn renew_standby(paths: &Paths) {
    // Without one, the next container starts as ever.
    if let Err(error) = standby::renew(paths) {
        eprintln!("hull supervisor: {error}");
    }
}

/// Records that a machine runs, once there is time for it: the guest has something to do.
fn began(
    record: &Rc<Record>,
    machine: &Machine,
    engine: vmm::EngineKind,
    network: &Networking,
) -> impl Future<Output = anyhow::Result<()>> + use<> {
    let (supervisor, machine) = (nix::unistd::getpid().as_raw(), machine.pid());
    let (record, ports) = (record.clone(), network.bound().to_vec());
    async move {
        let checked = record.get().config.health.clone();
        let checked = checked.is_some_and(|check| check.argv(&[]).is_some());
        record.change(&[], |state| {
            state.start(supervisor, engine.as_str(), now_ns())?;
            state.machine = machine;
            state.ports = ports;
            state.health = checked.then(Default::default);
            anyhow::Ok(())
        })
    }
}

struct Life {
    hub: Rc<Hub>,
    kill_orders: mpsc::Receiver<()>,
    back_off: BackOff,
}

/// The last end: what clients are still to be told, and what is still being given back.
struct Ending {
    end: Option<End>,
    machine: Option<Machine>,
}

/// What another run begins with: what the agent is told, standard input, and the record's task.
type NextRun = (Box<Start>, mpsc::Receiver<Input>, Recorded);

impl Life {
    /// Runs until no other run follows.
    async fn go_on(
        &mut self,
        mut start: Box<Start>,
        mut input: mpsc::Receiver<Input>,
        mut recorded: Recorded,
    ) -> Ending {
        loop {
            let began = Instant::now();
            let mut run = Run {
                hub: &self.hub,
                kill_orders: &mut self.kill_orders,
                recorded: &mut recorded,
            };
            let mut end = run.follow(start, input).await;
            // What follows changes what it records.
            if let Err(error) = settle(&mut recorded).await {
                eprintln!("hull supervisor: {error:#}");
            }
            let again = self.is_wanted_again(&end);
            let machine = self.finish(&mut end, again).await;
            if !again {
                return Ending {
                    end: Some(end),
                    machine,
                };
            }
            drop(machine);
            let ran = began.elapsed();
            self.hub.ended(end.exit, false);
            match self.next_run(ran).await {
                Some(next) => (start, input, recorded) = next,
                None => {
                    return Ending {
                        end: None,
                        machine: None,
                    };
                }
            }
        }
    }

    fn is_wanted_again(&self, end: &End) -> bool {
        if let Err(error) = self.hub.record.refresh() {
            eprintln!("hull supervisor: {error:#}");
        }
        let container = self.hub.record.get();
        let first = end.unstarted && container.state.restart_count == 0;
        let policy = container.config.restart;
        let restarts = policy.restarts(end.exit.code, container.state.restart_count);
        restarts && !first && !self.hub.is_end_wanted()
    }

    /// Waits as long as it takes and starts another machine; none when the container is not
    /// to run any more, which is recorded then.
    async fn next_run(&mut self, mut ran: Duration) -> Option<NextRun> {
        loop {
            let delay = self.back_off.next(ran);
            let cancelled = tokio::select! {
                () = tokio::time::sleep(delay) => false,
                () = self.hub.end_wanted() => true,
                _ = self.kill_orders.recv() => true,
            };
            if cancelled {
                self.give_up();
                return None;
            }
            match self.start_again().await {
                Ok(next) => return Some(next),
                Err(error) => {
                    let message = format!("{error:#}");
                    let again = self.count_failure(&message);
                    if !again {
                        self.give_up();
                        return None;
                    }
                }
            }
            ran = Duration::ZERO;
        }
    }

    async fn start_again(&mut self) -> anyhow::Result<NextRun> {
        let record = &self.hub.record;
        record.refresh()?;
        let plan = launch::plan(record.store(), &record.get(), Attach::default(), None)?;
        let begun = begin(
            Machine::start,
            &plan.machine,
            plan.network,
            record.store().paths(),
        );
        let (machine, network) = begun.map_err(anyhow::Error::msg)?;
        let began = began(record, &machine, plan.machine.engine, &network);
        *self.hub.network.lock().await = Some(network);
        let input = self.hub.begin_again(machine);
        Ok((plan.start, input, Some(spawn_local(began))))
    }

    /// A machine could not be made: counts as a run that failed; whether to try once more.
    fn count_failure(&self, message: &str) -> bool {
        let record = &self.hub.record;
        let policy = record.get().config.restart;
        let again = policy.restarts(125, record.get().state.restart_count);
        let counted = record.change(&[], |state| state.restart(125, message, now_ns()));
        if let Err(error) = counted {
            eprintln!("hull supervisor: {error:#}");
        }
        again
    }

    fn give_up(&self) {
        let gave_up = self.hub.record.change(&[], |state| state.give_up());
        if let Err(error) = gave_up {
            eprintln!("hull supervisor: {error:#}");
        }
    }

    /// Ends the machine and remembers how. What is never started again is returned while its
    /// memory is still being given back.
    async fn finish(&mut self, end: &mut End, again: bool) -> Option<Machine> {
        let record = self.hub.record.clone();
        let auto_remove = record.get().config.auto_remove;
        let flush = !end.unstarted && !auto_remove && end.error.is_empty();
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
            if auto_remove {
                machine.begin_kill();
            } else {
                machine.kill();
            }
            end.exit.oom_killed |= machine.starved();
        }
        let network = self.hub.network.lock().await.take();
        if let Some(network) = network {
            network.leave().await;
        }
        // The next command finds a free lock and repairs the record.
        if let Err(error) = remember(&record, end, again) {
            eprintln!("hull supervisor: {error:#}");
        }
        ending
    }

    fn tell_end(&self, end: Option<End>) {
        let Some(end) = end else {
            return self.hub.over();
        };
        if end.unstarted {
            self.hub.started(ControlReply::Error {
                code: end.exit.code,
                message: end.error.clone(),
            });
        }
        self.hub.ended(end.exit, true);
    }
}

fn remember(record: &Record, end: &End, again: bool) -> anyhow::Result<()> {
    let code = end.exit.code;
    let started_at = record.get().state.started_at;
    let auto_remove = record.get().config.auto_remove;
    let seconds = now_ns().saturating_sub(started_at) / 1_000_000_000;
    let mut notes = Vec::new();
    if end.exit.oom_killed {
        notes.push(Note::new("oom"));
    }
    let die = Note::new("die").with("exitCode", code);
    notes.push(die.with("execDuration", seconds));
    if end.unstarted && !again {
        if auto_remove {
            return record.remove(&notes, |state| state.exit(code, &end.error, now_ns()));
        }
        return record.change(&notes, |state| {
            state.start_failed(code, &end.error);
            anyhow::Ok(())
        });
    }
    if again {
        return record.change(&notes, |state| {
            state.restart(code, &end.error, now_ns())?;
            state.oom_killed = end.exit.oom_killed;
            anyhow::Ok(())
        });
    }
    let exit = |state: &mut State| {
        state.exit(code, &end.error, now_ns())?;
        state.oom_killed = end.exit.oom_killed;
        Ok::<_, BadTransition>(())
    };
    if auto_remove {
        record.remove(&notes, exit)
    } else {
        record.change(&notes, exit)
    }
}
