//! What travels to a new VMM process: the machine's description without paths, and the
//! descriptors of everything that it may touch, opened by its creator.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::tcg;
use crate::limits::HostLimits;
use crate::probe::KVM_DEVICE;
use crate::{
    DiskSource, EngineKind, GuestArch, IoLimits, MAX_INTERFACES, MAX_PARTITIONS, MAX_SERIAL,
    MAX_TAG, MachineConfig, RateLimits, StartError,
};

/// A machine without its descriptors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LaunchSpec {
    pub(crate) name: String,
    pub(crate) engine: EngineKind,
    pub(crate) arch: GuestArch,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    pub(crate) console: bool,
    pub(crate) disks: Vec<DiskSpec>,
    /// What each of them may do in a second.
    pub(crate) disk_limits: IoLimits,
    pub(crate) shares: Vec<ShareSpec>,
    /// What each network interface may carry in a second.
    pub(crate) network_limits: RateLimits,
    /// The hardware addresses of the network interfaces.
    pub(crate) interfaces: Vec<[u8; 6]>,
    /// Count what starting it costs.
    pub(crate) trace_boot: bool,
    /// Let the guest kernel say everything.
    pub(crate) verbose: bool,
}

/// A block device without its files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DiskSpec {
    pub(crate) serial: String,
    pub(crate) kind: DiskKind,
}

/// How a block device uses its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DiskKind {
    /// So many files as the partitions of a read-only disk.
    Partitions(usize),
    /// One file that the guest writes.
    Writable { durable: bool },
    /// No file yet.
    Awaited { size: u64, writable: bool },
}

impl DiskKind {
    /// How many files belong to it.
    fn files(self) -> usize {
        match self {
            Self::Partitions(count) => count,
            Self::Writable { .. } => 1,
            Self::Awaited { .. } => 0,
        }
    }
}

/// What a machine that waits is to be: the name of its container, and what is on the disks that
/// have nothing on them yet, in their order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Adoption {
    pub(crate) name: String,
    pub(crate) console: bool,
    pub(crate) disks: Vec<AdoptedDisk>,
}

/// What comes to a disk whose size the guest knows already.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct AdoptedDisk {
    pub(crate) kind: DiskKind,
    pub(crate) size: u64,
}

impl Adoption {
    /// How many descriptors belong to it: the console's, then the disks'.
    pub(crate) fn descriptors(&self) -> usize {
        let disks = self.disks.iter().map(|disk| disk.kind.files());
        usize::from(self.console) + disks.sum::<usize>()
    }

    /// Sort descriptors that arrived for it.
    pub(crate) fn sort(&self, fds: Vec<OwnedFd>) -> (Option<OwnedFd>, Vec<Vec<OwnedFd>>) {
        let mut fds = fds.into_iter();
        let console = if self.console { fds.next() } else { None };
        let disks = self.disks.iter();
        let disks = disks.map(|disk| fds.by_ref().take(disk.kind.files()).collect());
        (console, disks.collect())
    }
}

/// A shared directory without its descriptor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShareSpec {
    pub(crate) tag: String,
    pub(crate) read_only: bool,
}

impl LaunchSpec {
    /// How much the guest's kernel says: by default what is critical.
    pub(crate) fn log_level(&self) -> &'static str {
        if self.verbose {
            "loglevel=8"
        } else {
            "loglevel=3"
        }
    }

    /// Whether something else than the guest kernel itself executes the guest.
    pub(crate) fn has_emulator(&self) -> bool {
        self.engine != EngineKind::Uml
    }

    /// How many descriptors belong to this description.
    pub(crate) fn descriptors(&self) -> usize {
        let disks: usize = self.disks.iter().map(|disk| disk.kind.files()).sum();
        2 + usize::from(self.has_emulator()) + usize::from(self.console) + disks
    }
}

/// Everything that a machine may touch.
#[derive(Debug)]
pub(crate) struct LaunchFiles {
    pub(crate) kernel: OwnedFd,
    pub(crate) initramfs: OwnedFd,
    /// QEMU's program or KVM's device.
    pub(crate) emulator: Option<OwnedFd>,
    pub(crate) console: Option<OwnedFd>,
    pub(crate) disks: Vec<Vec<OwnedFd>>,
}

impl LaunchFiles {
    /// The descriptors in the order in which they travel.
    pub(crate) fn into_vec(self) -> Vec<OwnedFd> {
        let mut all = vec![self.kernel, self.initramfs];
        all.extend(self.emulator);
        all.extend(self.console);
        all.extend(self.disks.into_iter().flatten());
        all
    }

    /// Sort descriptors that arrived for a description.
    pub(crate) fn from_vec(spec: &LaunchSpec, fds: Vec<OwnedFd>) -> Option<Self> {
        if fds.len() != spec.descriptors() {
            return None;
        }
        let mut fds = fds.into_iter();
        let kernel = fds.next()?;
        let initramfs = fds.next()?;
        let emulator = if spec.has_emulator() {
            Some(fds.next()?)
        } else {
            None
        };
        let console = if spec.console {
            Some(fds.next()?)
        } else {
            None
        };
        let disks = spec
            .disks
            .iter()
            .map(|disk| fds.by_ref().take(disk.kind.files()).collect())
            .collect();
        Some(Self {
            kernel,
            initramfs,
            emulator,
            console,
            disks,
        })
    }
}

/// A machine with everything opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) spec: LaunchSpec,
    pub(crate) files: LaunchFiles,
    /// The shared directories, in the order of their description.
    pub(crate) shares: Vec<OwnedFd>,
    /// What its processes may use of the host.
    pub(crate) host_limits: HostLimits,
}

/// Check a configuration and open everything that it names.
pub(crate) fn open(config: &MachineConfig) -> Result<Opened, StartError> {
    check(config)?;
    let kernel = open_file(&config.kernel, "guest kernel", false)?;
    let initramfs = open_file(&config.initramfs, "initramfs", false)?;
    let emulator = match config.engine {
        EngineKind::Uml => None,
        EngineKind::Kvm => Some(open_kvm()?),
        EngineKind::Tcg => {
            let path = config
                .qemu
                .clone()
                .unwrap_or_else(|| tcg::default_program(config.arch));
            Some(open_file(&path, "QEMU program", false)?)
        }
    };
    let console = open_console(config)?;
    let mut disks = Vec::new();
    let mut disk_specs = Vec::new();
    for disk in &config.disks {
        let (kind, files) = open_disk(&disk.source)?;
        disk_specs.push(DiskSpec {
            serial: disk.serial.clone(),
            kind,
        });
        disks.push(files);
    }
    let mut shares = Vec::new();
    let mut share_specs = Vec::new();
    for share in &config.shares {
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_PATH)
            .open(&share.source)
            .map_err(|source| StartError::Open {
                what: "shared directory",
                path: share.source.clone(),
                source,
            })?;
        shares.push(directory.into());
        share_specs.push(ShareSpec {
            tag: share.tag.clone(),
            read_only: share.read_only,
        });
    }
    let spec = LaunchSpec {
        name: config.name.clone(),
        engine: config.engine,
        arch: config.arch,
        memory_mib: config.memory_mib,
        cpus: config.cpus,
        console: console.is_some(),
        disks: disk_specs,
        disk_limits: config.disk_limits,
        network_limits: config.network_limits,
        shares: share_specs,
        interfaces: config.interfaces.clone(),
        trace_boot: config.trace_boot,
        verbose: config.verbose,
    };
    let files = LaunchFiles {
        kernel,
        initramfs,
        emulator,
        console,
        disks,
    };
    Ok(Opened {
        spec,
        files,
        shares,
        host_limits: config.host_limits.clone(),
    })
}

/// Open what a machine that waits with empty disks, as `awaited` has them, gets from `config`;
/// none where it is not what that describes.
pub(crate) fn open_awaited(
    awaited: &[DiskKind],
    config: &MachineConfig,
) -> Result<Option<(Adoption, Vec<OwnedFd>)>, StartError> {
    if awaited.len() != config.disks.len() {
        return Ok(None);
    }
    check(config)?;
    let console = open_console(config)?;
    let mut adoption = Adoption {
        name: config.name.clone(),
        console: console.is_some(),
        disks: Vec::new(),
    };
    let mut descriptors: Vec<_> = console.into_iter().collect();
    for (awaited, disk) in awaited.iter().zip(&config.disks) {
        let (kind, files) = open_disk(&disk.source)?;
        let DiskKind::Awaited { size, writable } = *awaited else {
            return Ok(None);
        };
        let total = files.iter().map(size_of).sum::<io::Result<u64>>();
        let total = total.map_err(StartError::Spawn)?;
        let fits = match kind {
            // What is between them is little.
            DiskKind::Partitions(_) => !writable && total < size / 2,
            DiskKind::Writable { .. } => writable && total == size,
            DiskKind::Awaited { .. } => false,
        };
        if !fits {
            return Ok(None);
        }
        adoption.disks.push(AdoptedDisk { kind, size });
        descriptors.extend(files);
    }
    Ok(Some((adoption, descriptors)))
}

fn size_of(file: &OwnedFd) -> io::Result<u64> {
    let status = nix::sys::stat::fstat(file)?;
    u64::try_from(status.st_size).map_err(io::Error::other)
}

fn open_console(config: &MachineConfig) -> Result<Option<OwnedFd>, StartError> {
    let Some(path) = &config.console else {
        return Ok(None);
    };
    let opened = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let opened = opened.map_err(|source| StartError::Open {
        what: "console file",
        path: path.clone(),
        source,
    });
    Ok(Some(opened?.into()))
}

fn open_disk(source: &DiskSource) -> Result<(DiskKind, Vec<OwnedFd>), StartError> {
    Ok(match source {
        DiskSource::Partitions(paths) => {
            let files = paths
                .iter()
                .map(|path| open_file(path, "disk image", false))
                .collect::<Result<Vec<_>, _>>()?;
            (DiskKind::Partitions(files.len()), files)
        }
        DiskSource::Writable { path, durable } => (
            DiskKind::Writable { durable: *durable },
            vec![open_file(path, "writable disk", true)?],
        ),
        DiskSource::Awaited { size, writable } => {
            let (size, writable) = (*size, *writable);
            (DiskKind::Awaited { size, writable }, Vec::new())
        }
    })
}

fn open_file(path: &Path, what: &'static str, write: bool) -> Result<OwnedFd, StartError> {
    let fail = |source| StartError::Open {
        what,
        path: path.to_owned(),
        source,
    };
    // O_NONBLOCK so that a FIFO in the place of a file cannot hold the caller up.
    let file: File = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(fail)?;
    let kind = file.metadata().map_err(fail)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(fail(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )));
    }
    Ok(file.into())
}

fn open_kvm() -> Result<OwnedFd, StartError> {
    let path = Path::new(KVM_DEVICE);
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened
        .map(OwnedFd::from)
        .map_err(|source| StartError::Open {
            what: "virtualization device",
            path: path.to_owned(),
            source,
        })
}

fn check(config: &MachineConfig) -> Result<(), StartError> {
    let invalid = |what: String| Err(StartError::Invalid(what));
    if config.cpus == 0 || config.cpus > 64 {
        return invalid(format!("{} virtual CPUs: choose 1 to 64", config.cpus));
    }
    if config.memory_mib < 32 {
        return invalid(format!(
            "{} MiB of memory: a guest needs 32 or more",
            config.memory_mib
        ));
    }
    if config.engine == EngineKind::Uml
        && (config.arch != GuestArch::X86_64 || std::env::consts::ARCH != "x86_64")
    {
        return invalid("the uml engine runs x86_64 guests on x86_64 hosts only".to_owned());
    }
    if config.engine == EngineKind::Kvm && config.arch.as_str() != std::env::consts::ARCH {
        return invalid(format!(
            "the kvm engine runs guests on the host's own CPU, which is not {}",
            config.arch
        ));
    }
    for disk in &config.disks {
        let printable = disk.serial.bytes().all(|byte| byte.is_ascii_graphic());
        if disk.serial.len() > MAX_SERIAL || !printable {
            return invalid(format!(
                "disk serial {:?} is not up to {MAX_SERIAL} printable ASCII characters",
                disk.serial
            ));
        }
        if let DiskSource::Partitions(paths) = &disk.source
            && (paths.is_empty() || paths.len() > MAX_PARTITIONS)
        {
            return invalid(format!(
                "a composed disk of {} files: choose 1 to {MAX_PARTITIONS}",
                paths.len()
            ));
        }
    }
    if config.interfaces.len() > MAX_INTERFACES {
        return invalid(format!(
            "{} network interfaces: choose up to {MAX_INTERFACES}",
            config.interfaces.len()
        ));
    }
    for share in &config.shares {
        if share.tag.is_empty() || share.tag.len() > MAX_TAG || share.tag.contains('\0') {
            return invalid(format!(
                "share tag {:?} is not 1 to {MAX_TAG} bytes",
                share.tag
            ));
        }
    }
    Ok(())
}
