//! Starting a container: everything its supervisor needs is put together here, so that the
//! supervisor opens the machine at once.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use guest_agent::protocol::{
    BlockDevice, FrameKind, Share, Start, Stdio as Streams, Storage, WindowSize,
};
use vmm::{DirShare, Disk, DiskSource, EngineKind, GuestArch, MachineConfig};

use super::Emulation;
use super::assets::{self, AssetError};
use super::control::{self, Attach, ControlError, ControlReply, LaunchPlan};
use super::descriptors;
use super::lifecycle::{self, LifecycleError};
use super::network::{self, LostLinks};
use super::record::{Bind, Config, Container};
use super::spec::{SpecError, container_spec};
use super::state::Status;
use crate::arch::binfmt;
use crate::arch::dispatch::{self, DispatchError, Plan, Question};
use crate::arch::emulators::{self, EmulatorError};
use crate::arch::platform::{Platform, PlatformError};
use crate::events::Note;
use crate::image::{self, ImageError};
use crate::store::{DiskError, Lock, Store, StoreError};

/// The serial of the disk with the image's layers and the emulators.
const LAYERS: &str = "layers";
/// The serial of the writable layer.
const WRITABLE: &str = "writable";

/// Why a container did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It runs already.
    #[error("container {0} is already running")]
    AlreadyRunning(String),
    /// Its previous run does not come to an end.
    #[error("container {0} is still ending its previous run, try again or use rm -f")]
    StillEnding(String),
    /// It was removed meanwhile.
    #[error("container {0} was removed")]
    Gone(String),
    /// It is being removed.
    #[error("container {0} is marked for removal and cannot be started")]
    Dead(String),
    /// Its image was removed by force.
    #[error("the image of container {name} ({image}) is gone, pull it again")]
    NoImage {
        /// The container.
        name: String,
        /// The image's id.
        image: String,
    },
    /// The engine in the configuration is none.
    #[error(transparent)]
    Engine(#[from] vmm::UnknownEngine),
    /// Nowhere to run it.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// The recorded platform is none.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// Kernel, agent or emulators are missing.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// The emulators' disk cannot be made.
    #[error(transparent)]
    Emulators(#[from] EmulatorError),
    /// The image's layers cannot be had.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The writable layer cannot be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The specification cannot be made.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its networks cannot be put together.
    #[error(transparent)]
    Network(#[from] network::NetworkError),
    /// A host directory of `-v` cannot be used.
    #[error("cannot use the host directory {path} as a volume: {source}")]
    Volume {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The supervisor cannot be started.
    #[error("starting the container's supervisor: {0}")]
    Spawn(#[source] io::Error),
    /// The supervisor did not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The guest or its agent refused; the supervisor recorded it.
    #[error("{message}")]
    Refused {
        /// Docker's exit code for it.
        code: i32,
        /// One sentence.
        message: String,
    },
}

impl LaunchError {
    /// Docker's exit code for it.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Refused { code, .. } => *code,
            _ => 125,
        }
    }
}

/// A started container.
#[derive(Debug)]
pub struct Started {
    /// Carries the streams that were asked for.
    pub stream: UnixStream,
    /// Sentences for the user.
    pub warnings: Vec<String>,
    /// What starting the machine took, if that was asked for.
    pub boot: Option<Box<vmm::BootTrace>>,
}

/// A supervisor that waits for its container.
///
/// Made before anything else, it and the machine's process get ready while the container is
/// still being put together. It ends when this is dropped.
#[derive(Debug)]
pub struct SpareSupervisor(UnixStream);

impl SpareSupervisor {
    /// Make one.
    pub fn spawn() -> Result<Self, LaunchError> {
        let (ours, theirs) = UnixStream::pair().map_err(LaunchError::Spawn)?;
        Command::new("/proc/self/exe")
            .arg0("hull")
            .arg(control::SUBCOMMAND)
            .current_dir("/")
            // It becomes the machine's process too, which must hold nobody's secrets.
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_for_supervisors(name)))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(remember)
            .map_err(LaunchError::Spawn)?;
        Ok(Self(ours))
    }
}

/// Supervisors that this process started. A command line ends before them; one that serves an
/// API has to wait for those that end before it.
static STARTED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

fn remember(supervisor: Child) {
    reap();
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    started.push(supervisor);
}

/// Takes notice of supervisors that have ended.
pub fn reap() {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    started.retain_mut(|supervisor| matches!(supervisor.try_wait(), Ok(None)));
}

/// Whether a supervisor needs this environment variable.
fn is_for_supervisors(variable: &OsStr) -> bool {
    let bytes = variable.as_encoded_bytes();
    bytes == b"HOME"
        || bytes == b"PATH"
        || bytes.starts_with(b"HULL_")
        || bytes.starts_with(b"XDG_")
}

/// Starts `container` and waits until its first process runs.
pub fn start(
    store: &Store,
    container: &Container,
    attach: Attach,
    window: Option<WindowSize>,
) -> Result<Started, LaunchError> {
    start_in(SpareSupervisor::spawn()?, store, container, attach, window)
}

/// Stops a container as [`lifecycle::stop`] does and starts it again.
pub fn restart(
    store: &Store,
    container: &Container,
    signal: Option<&str>,
    timeout: Option<i64>,
) -> Result<(), RestartError> {
    if container.config.auto_remove {
        return Err(RestartError::AutoRemove(container.name.clone()));
    }
    lifecycle::stop(store, container, signal, timeout, true)?;
    // What the store has of it now: that it ended.
    let container = lifecycle::find(store, &container.id)?;
    start(store, &container, Attach::default(), None)?;
    store.note_container(&container.id, &[Note::new("restart")])?;
    Ok(())
}

/// Why a container was not started again.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// It goes when it stops.
    #[error("container {0} was started with --rm and is removed when it stops, run it anew")]
    AutoRemove(String),
    /// It does not stop.
    #[error(transparent)]
    Stop(#[from] LifecycleError),
    /// It does not start.
    #[error(transparent)]
    Start(#[from] LaunchError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// [`start`] with a supervisor that stands already.
pub fn start_in(
    supervisor: SpareSupervisor,
    store: &Store,
    container: &Container,
    attach: Attach,
    window: Option<WindowSize>,
) -> Result<Started, LaunchError> {
    let lock = take_lock(store, container)?;
    if container.state.status == Status::Dead {
        return Err(LaunchError::Dead(container.name.clone()));
    }
    let plan = plan(store, container, attach, window)?;
    let log = store
        .paths()
        .container_run_dir(&container.id)
        .join("supervisor.log");
    let log = File::create(log).map_err(LaunchError::Spawn)?;
    let SpareSupervisor(mut ours) = supervisor;
    descriptors::send(&ours, &[lock.as_fd(), log.as_fd()]).map_err(ControlError::Io)?;
    drop(lock);
    control::send(&mut ours, FrameKind::Request, &plan)?;
    match control::receive(&mut ours, FrameKind::Response)? {
        ControlReply::Ok { warnings, boot } => Ok(Started {
            stream: ours,
            warnings,
            boot,
        }),
        ControlReply::Error { code, message } => Err(LaunchError::Refused { code, message }),
    }
}

/// Takes the lock of a container that does not run.
pub(super) fn take_lock(store: &Store, container: &Container) -> Result<File, LaunchError> {
    // Held while it runs, and for a moment while it ends.
    match store.wait_for_lock(&container.id)? {
        Lock::Taken(lock) => Ok(lock),
        Lock::Running => Err(LaunchError::AlreadyRunning(container.name.clone())),
        Lock::Stuck => Err(LaunchError::StillEnding(container.name.clone())),
        Lock::Gone => Err(LaunchError::Gone(container.name.clone())),
    }
}

/// Puts together everything that a supervisor needs.
pub(super) fn plan(
    store: &Store,
    container: &Container,
    attach: Attach,
    window: Option<WindowSize>,
) -> Result<LaunchPlan, LaunchError> {
    let config = &container.config;
    let image =
        image::find(store, &config.image_id, None)?.ok_or_else(|| LaunchError::NoImage {
            name: container.name.clone(),
            image: config.image_id.clone(),
        })?;
    let platform: Platform = config.platform.parse()?;
    let Base {
        place,
        mut disks,
        mut storage,
    } = base(store, config, &platform, image.layer_files(store)?)?;
    let connected = network::connected(store, container, LostLinks::Refused)?;
    let path = store.ensure_writable_disk(&container.id, config.disk_size)?;
    disks.push(writable(path, !config.auto_remove));
    storage.shares = shares(&config.binds);
    storage.transient = config.auto_remove;
    let start = Start {
        storage,
        spec: container_spec(config)?,
        user: config.user.clone(),
        groups: config.groups.clone(),
        network: connected.plan.guest_interfaces(),
        files: connected.files,
        sockets: Vec::new(),
        init: config.init,
        architecture: platform.architecture,
        stdio: Streams {
            stdin: config.open_stdin,
            terminal: config.tty.then(|| window.unwrap_or_default()),
        },
        clock_ns: 0,
        entropy: Vec::new(),
    };
    let mut machine = machine(store, container, place, disks)?;
    machine.interfaces = connected.plan.macs();
    machine.trace_boot = attach.trace_boot;
    machine.verbose = attach.console;
    Ok(LaunchPlan {
        container: container.clone(),
        machine,
        network: connected.plan,
        start: Box::new(start),
        attach,
    })
}

/// Where a guest with these layers runs, and what it has to read.
pub(crate) struct Base {
    pub(crate) place: Plan,
    pub(crate) disks: Vec<Disk>,
    pub(crate) storage: Storage,
}

/// Puts together what does not depend on the container: `layers`, the lowest first, the
/// emulators, and the engine that `config` wants.
pub(crate) fn base(
    store: &Store,
    config: &Config,
    platform: &Platform,
    layers: Vec<PathBuf>,
) -> Result<Base, LaunchError> {
    let engine = config
        .engine
        .as_deref()
        .map(str::parse::<EngineKind>)
        .transpose()?;
    let place = dispatch::choose(&Question {
        host: dispatch::host_architecture(),
        image: &platform.architecture,
        engine,
        emulation: config.emulation,
        isolation: config.isolation,
        kvm: kvm(store, engine, config.emulation),
    })?;
    let mut partitions = layers;
    let layer_count = partitions.len();
    let directory = emulators_directory(&place)?;
    let emulators = directory.as_deref();
    let emulators = emulators.map(|directory| emulators::disk(store, directory));
    let emulators = emulators.transpose()?;
    partitions.extend(emulators.clone());
    let mut disks = Vec::new();
    if !partitions.is_empty() {
        disks.push(Disk {
            serial: LAYERS.to_owned(),
            source: DiskSource::Partitions(partitions),
        });
    }
    let layer = |number: usize| BlockDevice {
        serial: LAYERS.to_owned(),
        partition: u32::try_from(number).ok(),
    };
    let storage = Storage {
        layers: (1..=layer_count).rev().map(layer).collect(),
        writable: Some(BlockDevice {
            serial: WRITABLE.to_owned(),
            partition: None,
        }),
        emulators: emulators.as_ref().map(|_| layer(layer_count + 1)),
        binfmt: match directory {
            Some(directory) => binfmt::rules(dispatch::native(place.engine, place.guest), |name| {
                directory.join(name).exists()
            }),
            None => Vec::new(),
        },
        transient: false,
        shares: Vec::new(),
        trees: Vec::new(),
    };
    Ok(Base {
        place,
        disks,
        storage,
    })
}

/// The writable layer as a disk.
pub(crate) fn writable(path: PathBuf, durable: bool) -> Disk {
    Disk {
        serial: WRITABLE.to_owned(),
        source: DiskSource::Writable { path, durable },
    }
}

/// Whether KVM runs guests here, if that matters.
pub fn kvm(
    store: &Store,
    engine: Option<EngineKind>,
    emulation: Option<Emulation>,
) -> Result<String, String> {
    if dispatch::asks_kvm(engine, emulation) {
        store.kvm(try_kvm)
    } else {
        Err("it was not asked for".to_owned())
    }
}

/// Try KVM.
pub fn try_kvm() -> Result<String, String> {
    let probe = vmm::probe_kvm();
    if probe.usable {
        Ok(probe.finding)
    } else {
        Err(probe.finding)
    }
}

fn machine(
    store: &Store,
    container: &Container,
    place: Plan,
    disks: Vec<Disk>,
) -> Result<MachineConfig, LaunchError> {
    let config = &container.config;
    for bind in &config.binds {
        // As docker: a missing directory is made, but not one that a volume's options name.
        let made_by_us = |name| bind.source == store.paths().volume_data(name);
        if bind.volume.as_deref().is_none_or(made_by_us) && !bind.source.exists() {
            fs::create_dir_all(&bind.source).map_err(|source| LaunchError::Volume {
                path: bind.source.clone(),
                source,
            })?;
        }
    }
    let share = |(number, bind): (usize, &Bind)| DirShare {
        tag: share_tag(number),
        source: bind.source.clone(),
        read_only: bind.read_only,
    };
    Ok(MachineConfig {
        name: container.short_id().to_owned(),
        engine: place.engine,
        arch: place.guest,
        memory_mib: u32::try_from(config.memory >> 20).unwrap_or(u32::MAX),
        cpus: config.cpus,
        kernel: assets::kernel(place.engine, place.guest)?,
        initramfs: assets::initramfs(place.guest)?,
        disks,
        disk_limits: config.disk_limits,
        trace_boot: false,
        verbose: false,
        no_jail: config.no_jail,
        shares: config.binds.iter().enumerate().map(share).collect(),
        interfaces: Vec::new(),
        console: Some(store.paths().console_log(&container.id)),
        qemu: None,
    })
}

/// Where the emulators are; without them only an image that needs one cannot run.
fn emulators_directory(place: &Plan) -> Result<Option<PathBuf>, LaunchError> {
    // A whole machine under QEMU is for exactness: it gets emulators only where it must.
    let wanted = place.user_emulation || place.engine != EngineKind::Tcg;
    match assets::emulators() {
        Ok(directory) if wanted => Ok(Some(directory)),
        Err(error) if place.user_emulation => Err(error.into()),
        _ => Ok(None),
    }
}

fn share_tag(number: usize) -> String {
    format!("share{number}")
}

fn shares(binds: &[Bind]) -> Vec<Share> {
    let share = |(number, bind): (usize, &Bind)| Share {
        tag: share_tag(number),
        subpath: bind.source.is_file().then(|| {
            bind.source
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        }),
        destination: bind.target.clone(),
        read_only: bind.read_only,
        copy_up: bind.copy_up,
        fill: None,
    };
    binds.iter().enumerate().map(share).collect()
}

/// The engines and guests that a kernel can be built for, for `hull kernel` and `doctor`.
pub const GUESTS: [(EngineKind, GuestArch); 3] = [
    (EngineKind::Uml, GuestArch::X86_64),
    (EngineKind::Tcg, GuestArch::X86_64),
    (EngineKind::Tcg, GuestArch::Aarch64),
];
