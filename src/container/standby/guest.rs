//! What a guest that waits is, and what of a container it does not know yet.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use guest_agent::protocol::{
    AGENT_PORT, BinfmtRule, BlockDevice, ErrorKind, FrameKind, HardwareAddress, MAIN_PROCESS,
    Prepare, ProvidedFile, Request, Signal, Start, Stdio, Storage, write_frame,
};
use vmm::{Disk, DiskSource, EngineKind, Event, Machine, MachineConfig, Spare};

use crate::arch::platform::Platform;
use crate::container::guest::GuestError;
use crate::container::launch::{self, Base};
use crate::container::record::Config;
use crate::container::spec::container_spec;
use crate::container::{assets, guest, options};
use crate::store::{Store, WRITABLE_SIZE};

/// What its layers and what lies between them may take; the guest knows no other size.
const LAYERS_SIZE: u64 = 16 << 40;

/// The serial of the disk with the emulators.
const EMULATORS: &str = "emulators";

/// The hardware address until there is a container; locally administered.
const ADDRESS: [u8; 6] = [0x02, 0, 0, 0, 0, 0];

/// How long a guest that waited may take to say that it is there; whoever starts a container waits
/// longer for its keeper, which then ends.
const ANSWER: Duration = Duration::from_secs(3);

/// How many seconds its guest may take to boot.
const BOOT_SECONDS: u64 = 120;

/// A guest that waits.
#[derive(Debug)]
pub struct Standby {
    machine: Machine,
    /// Kept open, as whoever comes for the guest goes on with it.
    store: Store,
    config: MachineConfig,
    /// The image with the emulators, which an ordinary guest has as its last partition.
    emulators: Option<PathBuf>,
    binfmt: Vec<BinfmtRule>,
    /// The files that it was made of, as they were.
    made_of: Vec<Option<Identity>>,
}

/// A guest that has its container.
#[derive(Debug)]
pub struct Adopted {
    /// The machine.
    pub machine: Machine,
    /// The store, open.
    pub store: Store,
    /// What the agent was asked already, which must stay open meanwhile.
    pub assembling: Option<UnixStream>,
}

/// What tells one version of a file from another: device, number, size, time of change.
type Identity = (u64, u64, u64, (i64, i64));

impl Standby {
    /// Boots one in `spare` and does in it what any container needs; none where containers do not
    /// run under `uml` by themselves.
    pub fn boot(spare: Spare, store: Store) -> anyhow::Result<Option<Self>> {
        let usual = Config::default();
        let Base {
            place,
            disks,
            storage,
        } = launch::base(&store, &usual, &Platform::host(), Vec::new())?;
        if place.engine != EngineKind::Uml {
            return Ok(None);
        }
        let emulators = disks.into_iter().find_map(|disk| match disk.source {
            DiskSource::Partitions(paths) => paths.into_iter().next(),
            _ => None,
        });
        let awaited = |serial: &str, size, writable| Disk {
            serial: serial.to_owned(),
            source: DiskSource::Awaited { size, writable },
        };
        let mut disks = vec![
            awaited(launch::LAYERS, LAYERS_SIZE, false),
            awaited(launch::WRITABLE, WRITABLE_SIZE, true),
        ];
        disks.extend(emulators.iter().map(|image| Disk {
            serial: EMULATORS.to_owned(),
            source: DiskSource::Partitions(vec![image.clone()]),
        }));
        let config = MachineConfig {
            name: "standby".to_owned(),
            engine: place.engine,
            arch: place.guest,
            memory_mib: u32::try_from(options::DEFAULT_MEMORY >> 20)?,
            cpus: 1,
            kernel: assets::kernel(place.engine, place.guest)?,
            initramfs: assets::initramfs(place.guest)?,
            disks,
            disk_limits: vmm::IoLimits::default(),
            network_limits: vmm::RateLimits::default(),
            host_limits: vmm::HostLimits::default(),
            trace_boot: false,
            verbose: false,
            no_jail: false,
            shares: Vec::new(),
            interfaces: vec![ADDRESS],
            console: None,
            qemu: None,
        };
        let mut standby = Self {
            made_of: made_of(&config, &store),
            store,
            machine: spare.start(&config)?,
            config,
            emulators,
            binfmt: storage.binfmt,
        };
        standby.prepare()?;
        Ok(Some(standby))
    }

    fn prepare(&mut self) -> anyhow::Result<()> {
        let limit = Duration::from_secs(BOOT_SECONDS);
        match self.machine.next_event_within(limit)? {
            Some(Event::Ready) => {}
            Some(Event::Stopped(reason)) => anyhow::bail!("the guest did not boot: {reason}"),
            None => anyhow::bail!("the guest's agent was not ready after {BOOT_SECONDS} s"),
        }
        self.rehearse()?;
        let request = Request::Prepare(Prepare {
            emulators: self.emulators.as_ref().map(|_| BlockDevice {
                serial: EMULATORS.to_owned(),
                partition: Some(1),
            }),
            binfmt: self.binfmt.clone(),
            interfaces: self.config.interfaces.clone(),
        });
        let mut stream = self.machine.connect(AGENT_PORT)?;
        guest::ask(&mut stream, request).context("preparing the guest")?;
        Ok(())
    }

    /// Lets the guest do everything once, so that what its kernel and its agent need of memory is
    /// there: a start, in an empty root, up to the program that it does not find.
    fn rehearse(&self) -> anyhow::Result<()> {
        let nothing = Config {
            cmd: vec!["rehearsal".to_owned()],
            working_dir: "/".to_owned(),
            hostname: "rehearsal".to_owned(),
            shm_size: options::DEFAULT_SHM,
            ..Config::default()
        };
        let file = |path: &str| ProvidedFile {
            path: path.to_owned(),
            content: b"rehearsal\n".to_vec(),
            mode: 0o644,
            uid: 0,
            gid: 0,
        };
        let start = Start {
            storage: Storage::default(),
            spec: container_spec(&nothing)?,
            user: String::new(),
            groups: Vec::new(),
            hardware: Vec::new(),
            network: Vec::new(),
            files: ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
                .map(file)
                .to_vec(),
            sockets: Vec::new(),
            init: false,
            architecture: Platform::host().architecture,
            stdio: Stdio::default(),
            clock_ns: 0,
            entropy: Vec::new(),
        };
        let mut stream = self.machine.connect(AGENT_PORT)?;
        match guest::ask(&mut stream, Request::Start(Box::new(start))) {
            Err(GuestError::Refused(error)) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).context("rehearsing in the guest"),
            Ok(_) => anyhow::bail!("the guest ran a program that is not there"),
        }
    }

    /// Whether the guest still answers, and has no container: it may have gone bad while it waited.
    pub fn answers(&self) -> bool {
        let Ok(mut stream) = self.machine.connect(AGENT_PORT) else {
            return false;
        };
        let limited = stream.set_read_timeout(Some(ANSWER));
        let nobody = Signal {
            process: MAIN_PROCESS.to_owned(),
            signal: 0,
        };
        let answer = limited
            .map_err(GuestError::Io)
            .and_then(|()| guest::ask(&mut stream, Request::Signal(nobody)));
        matches!(answer, Err(GuestError::Refused(error)) if error.kind == ErrorKind::NoSuchProcess)
    }

    /// The machine, to be watched while it waits.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Makes it the guest that `config` describes and `start` begins in, from which goes what is
    /// done already; none where they need another one.
    pub fn adopt(
        mut self,
        config: &MachineConfig,
        start: &mut Start,
    ) -> Result<Option<Adopted>, vmm::StartError> {
        if !self.suits(config, start) || !self.machine.adopt(config)? {
            return Ok(None);
        }
        start.storage.emulators = None;
        start.storage.binfmt.clear();
        let interfaces = self.config.interfaces.iter().zip(&config.interfaces);
        start.hardware = interfaces
            .map(|(now, wanted)| HardwareAddress {
                now: *now,
                wanted: *wanted,
            })
            .collect();
        Ok(Some(Adopted {
            assembling: self.assemble(&start.storage).ok(),
            machine: self.machine,
            store: self.store,
        }))
    }

    /// Lets the agent put the root together while the networks are joined. What came of it the
    /// start finds.
    fn assemble(&self, storage: &Storage) -> anyhow::Result<UnixStream> {
        let mut stream = self.machine.connect(AGENT_PORT)?;
        let request = guest::encode(Request::Assemble(Box::new(storage.clone())))?;
        write_frame(&mut stream, FrameKind::Request, &request)?;
        Ok(stream)
    }

    fn suits(&self, asked: &MachineConfig, start: &Start) -> bool {
        let alike = MachineConfig {
            name: self.config.name.clone(),
            disks: self.config.disks.clone(),
            interfaces: self.config.interfaces.clone(),
            console: self.config.console.clone(),
            ..asked.clone()
        };
        let layers = asked.disks.first().map(|disk| &disk.source);
        let same_emulators = match (layers, &self.emulators) {
            (Some(DiskSource::Partitions(parts)), Some(image)) => parts.last() == Some(image),
            (Some(DiskSource::Partitions(_)), None) => true,
            _ => false,
        };
        alike == self.config
            && asked.interfaces.len() == self.config.interfaces.len()
            && same_emulators
            && start.storage.binfmt == self.binfmt
            && made_of(asked, &self.store) == self.made_of
    }
}

/// The programs that a machine is made of, and the database of its store.
fn made_of(config: &MachineConfig, store: &Store) -> Vec<Option<Identity>> {
    let of_program = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        Some((metadata.dev(), metadata.ino(), metadata.size(), changed))
    };
    let programs = [&config.kernel, &config.initramfs];
    let mut all = programs.map(|path| of_program(path)).to_vec();
    // Another one may be in its place; what is in it changes all the time.
    let database = fs::metadata(store.paths().database()).ok();
    all.push(database.map(|metadata| (metadata.dev(), metadata.ino(), 0, (0, 0))));
    all
}
