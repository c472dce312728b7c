//! The machine of a stage: boots once, runs one step after the other, and gives each step's
//! changes as a layer.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use guest_agent::protocol::{
    AGENT_PORT, Exit, FrameKind, Layering, ProvidedFile, Request, Share, Start, Stdio, Storage,
    Task, Tree, Work, read_frame,
};
use vmm::{DirShare, Event, Machine, MachineConfig};

use super::network::{Networked, NoNetwork};
use super::ssh::{Forwarded, Relays};
use crate::arch::Platform;
use crate::container::assets::{self, AssetError};
use crate::container::files::{FilesError, Input, Output};
use crate::container::guest::{self, GuestError};
use crate::container::id;
use crate::container::launch::{self, LaunchError};
use crate::container::limits;
use crate::container::record::{Config, now_ns};
use crate::container::spec::{SpecError, container_spec};
use crate::store::{DiskError, Store, TempFile};

/// How long a guest may take to boot, as for containers.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);

/// Why a stage's guest cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum GuestFailure {
    /// It cannot be put together.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// Kernel or agent are missing.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// No writable disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It did not boot, or died.
    #[error("the stage's guest {0}")]
    Dead(String),
    /// The agent refused.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The agent's work failed.
    #[error(transparent)]
    Work(#[from] FilesError),
    /// No network.
    #[error(
        "the build has no network: {0}; RUN --network=none and hull build --network none need none"
    )]
    Network(#[from] NoNetwork),
    /// The step's settings make no sense.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The connection failed.
    #[error("talking to the stage's guest: {0}")]
    Io(#[from] io::Error),
}

/// A running guest.
#[derive(Debug)]
pub struct Guest<'a> {
    machine: Machine,
    network: Networked<'a>,
    storage: Storage,
    /// Whether the writable layer has something in it that is a layer already.
    used: bool,
    warning: Option<String>,
    _disk: TempFile,
}

/// A step to run.
#[derive(Debug)]
pub struct Command<'a> {
    /// Program, environment, directory, user, limits.
    pub config: &'a Config,
    /// Architecture in OCI's words.
    pub architecture: &'a str,
    /// Files that it sees and that nobody keeps.
    pub files: Vec<ProvidedFile>,
    /// Directories of the host.
    pub shares: Vec<Share>,
    /// Trees that [`Guest::fill`] brought.
    pub trees: Vec<Tree>,
    /// SSH agents of the host.
    pub agents: Vec<Forwarded>,
}

impl<'a> Guest<'a> {
    /// Boots a guest with these layers, the lowest first.
    pub fn boot(
        store: &'a Store,
        config: &Config,
        platform: &Platform,
        layers: Vec<PathBuf>,
        shares: Vec<DirShare>,
        offline: bool,
    ) -> Result<Self, GuestFailure> {
        let base = launch::base(store, config, platform, layers)?;
        let disk = store.scratch_disk()?;
        let mut network = Networked::begin(store, config, disk.name(), offline)?;
        let mut disks = base.disks;
        disks.push(launch::writable(disk.path().to_owned(), false));
        let machine = MachineConfig {
            name: "build".to_owned(),
            engine: base.place.engine,
            arch: base.place.guest,
            memory_mib: u32::try_from(config.memory >> 20).unwrap_or(u32::MAX),
            cpus: config.cpus,
            kernel: assets::kernel(base.place.engine, base.place.guest)?,
            initramfs: assets::initramfs(base.place.guest)?,
            disks,
            disk_limits: vmm::IoLimits::default(),
            network_limits: vmm::RateLimits::default(),
            host_limits: limits::of_host(config),
            trace_boot: false,
            verbose: false,
            no_jail: false,
            shares,
            interfaces: network.macs(),
            console: None,
            qemu: None,
        };
        let dead =
            |what: &dyn std::fmt::Display| GuestFailure::Dead(format!("did not boot: {what}"));
        let mut machine = Machine::start(&machine).map_err(|error| dead(&error))?;
        match machine.next_event_within(BOOT_DEADLINE) {
            Ok(Some(Event::Ready)) => {}
            Ok(Some(Event::Stopped(reason))) => return Err(dead(&reason)),
            Ok(None) => {
                let seconds = BOOT_DEADLINE.as_secs();
                return Err(GuestFailure::Dead(format!(
                    "did not boot within {seconds} s: the host is too slow or too busy"
                )));
            }
            Err(error) => return Err(dead(&error)),
        }
        // As for containers: what needs no network runs all the same.
        let connected = network.connect(&machine);
        let offline = connected.err();
        let offline = offline.map(|error| format!("commands have no network: {error}"));
        let unkept = limits::not_kept(config, &mut machine);
        let told = offline.into_iter().chain(unkept);
        let warnings: Vec<String> = told.map(|text| format!("[Warning] {text}")).collect();
        Ok(Self {
            machine,
            network,
            storage: base.storage,
            used: false,
            warning: (!warnings.is_empty()).then(|| warnings.join("\n")),
            _disk: disk,
        })
    }

    /// A sentence for the user about the boot, once.
    pub fn take_warning(&mut self) -> Option<String> {
        self.warning.take()
    }

    fn connect(&self) -> Result<UnixStream, GuestFailure> {
        let stream = self.machine.connect(AGENT_PORT);
        stream.map_err(|error| GuestFailure::Io(io::Error::other(error)))
    }

    /// What is known of why the guest does not answer.
    fn explain(&mut self, error: GuestFailure) -> GuestFailure {
        let gone = match &error {
            GuestFailure::Guest(GuestError::Refused(_)) | GuestFailure::Spec(_) => false,
            GuestFailure::Guest(_) | GuestFailure::Io(_) => true,
            _ => false,
        };
        if !gone {
            return error;
        }
        // It may be about to end: a kill that finds it ended keeps the first reason.
        self.machine.kill();
        match self.machine.next_event() {
            Ok(Event::Stopped(reason)) => GuestFailure::Dead(format!("has ended: {reason}")),
            _ => error,
        }
    }

    /// Runs a command to its end and returns its exit code; `connected` gets a way to break it
    /// off, `output` what it says.
    pub fn run(
        &mut self,
        command: Command<'_>,
        connected: impl FnOnce(UnixStream),
        output: impl FnMut(&[u8]),
    ) -> Result<i32, GuestFailure> {
        let done = self.try_run(command, connected, output);
        done.map_err(|error| self.explain(error))
    }

    fn try_run(
        &mut self,
        command: Command<'_>,
        connected: impl FnOnce(UnixStream),
        output: impl FnMut(&[u8]),
    ) -> Result<i32, GuestFailure> {
        self.seal()?;
        let mut files = self.network.files.clone();
        files.extend(command.files);
        let mut storage = self.storage.clone();
        storage.shares = command.shares;
        storage.trees = command.trees;
        // Steps are kept when they have ended, never in the middle.
        storage.transient = true;
        let start = Start {
            storage,
            spec: container_spec(command.config)?,
            user: command.config.user.clone(),
            groups: Vec::new(),
            hardware: Vec::new(),
            network: self.network.interfaces.clone(),
            files,
            sockets: command.agents.iter().map(|it| it.socket.clone()).collect(),
            init: false,
            architecture: command.architecture.to_owned(),
            stdio: Stdio::default(),
            clock_ns: u64::try_from(now_ns()).unwrap_or_default(),
            entropy: id::random_bytes::<32>()?.to_vec(),
        };
        let mut stream = self.connect()?;
        connected(stream.try_clone()?);
        self.used = true;
        guest::ask(&mut stream, Request::Start(Box::new(start)))?;
        let relays = Relays::new(&self.machine, &self.storage);
        std::thread::scope(|scope| {
            for agent in &command.agents {
                relays.serve(scope, agent)?;
            }
            let code = follow(stream, output);
            relays.end();
            code
        })
    }

    /// The changes of the last command, to be read to their end.
    pub fn layer(&self, latest: i64, stubs: Vec<String>) -> Result<Output, GuestFailure> {
        let how = Layering {
            latest: Some(latest),
            stubs,
        };
        Ok(Output::new(self.work(Task::Layer(how))?))
    }

    /// Puts a layer that the host made on top.
    pub fn add(&mut self, archive: &mut dyn io::Read) -> Result<(), GuestFailure> {
        self.seal()?;
        self.used = true;
        self.send(
            Task::Extract {
                directory: "/".to_owned(),
                owners: true,
            },
            archive,
        )
    }

    /// Brings a tree to mount.
    pub fn fill(&mut self, name: &str, archive: &mut dyn io::Read) -> Result<(), GuestFailure> {
        let name = name.to_owned();
        self.send(Task::Fill { name }, archive)
    }

    fn send(&self, task: Task, archive: &mut dyn io::Read) -> Result<(), GuestFailure> {
        let stream = self.work(task)?;
        let mut input = Input(stream.try_clone()?);
        let sent = io::copy(archive, &mut input).and_then(|_| input.close());
        let done = Output::new(stream).finish();
        match sent {
            // The agent stopped reading: it says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(done?),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(done?),
        }
    }

    fn work(&self, task: Task) -> Result<UnixStream, GuestFailure> {
        let mut stream = self.connect()?;
        let storage = self.storage.clone();
        guest::ask(&mut stream, Request::Work(Box::new(Work { storage, task })))?;
        Ok(stream)
    }

    /// Begins an empty writable layer, unless this one is.
    fn seal(&mut self) -> Result<(), GuestFailure> {
        if self.used {
            guest::ask(&mut self.connect()?, Request::Seal)?;
            self.used = false;
        }
        Ok(())
    }
}

/// Reads what a command says, to its end.
fn follow(stream: UnixStream, mut output: impl FnMut(&[u8])) -> Result<i32, GuestFailure> {
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    loop {
        let frame = read_frame(&mut reader).map_err(GuestError::Frame)?;
        let frame = frame.ok_or(GuestError::Gone)?;
        match frame.kind {
            FrameKind::Stdout | FrameKind::Stderr => output(&frame.payload),
            FrameKind::Exit => {
                let exit: Exit = serde_json::from_slice(&frame.payload)
                    .map_err(|error| GuestError::Garbage(error.to_string()))?;
                return Ok(exit.code);
            }
            kind => {
                return Err(GuestError::Garbage(format!("{kind:?} of a process")).into());
            }
        }
    }
}
