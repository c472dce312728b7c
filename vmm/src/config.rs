//! What a virtual machine is made of: the description that its creator fills in.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::HostLimits;

/// The longest block device serial that virtio carries.
pub const MAX_SERIAL: usize = 20;

/// The most files that one composed disk can hold.
pub const MAX_PARTITIONS: usize = 200;

/// The most network interfaces of one machine.
pub const MAX_INTERFACES: usize = 16;

/// The longest tag of a shared directory that virtio carries.
pub const MAX_TAG: usize = 36;

/// Where a network comes to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetworkPlace {
    /// Which interface, in the order of [`MachineConfig::interfaces`].
    pub interface: usize,
    /// The VLAN on it, from 1 to 4094; 0 for the interface itself.
    pub vlan: u16,
}

impl NetworkPlace {
    /// An interface of its own.
    pub const fn interface(interface: usize) -> Self {
        Self { interface, vlan: 0 }
    }
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The host's CPU runs the guest behind its hardware boundary.
    Kvm,
    /// The guest kernel runs as a user-mode Linux process on an x86-64 host.
    Uml,
    /// QEMU's translator runs the guest: any architecture, slow.
    Tcg,
}

impl EngineKind {
    /// The name used on command lines and in configuration files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Uml => "uml",
            Self::Tcg => "tcg",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no engine's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown engine {0:?}: choose kvm, uml or tcg")]
pub struct UnknownEngine(pub String);

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "kvm" => Ok(Self::Kvm),
            "uml" => Ok(Self::Uml),
            "tcg" => Ok(Self::Tcg),
            _ => Err(UnknownEngine(name.to_owned())),
        }
    }
}

/// The architecture of the guest's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GuestArch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    #[serde(rename = "aarch64")]
    Aarch64,
}

impl GuestArch {
    /// The kernel's and QEMU's name of the architecture.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

impl fmt::Display for GuestArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineConfig {
    /// The name that error messages and the guest's process title use.
    pub name: String,
    /// What executes the guest.
    pub engine: EngineKind,
    /// The guest kernel's architecture.
    pub arch: GuestArch,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Virtual CPUs. Under `uml` more than one needs the kernel's seccomp mode, in which a
    /// hostile program of the guest can get at the guest's own kernel; the host's wall around
    /// both is the same.
    pub cpus: u32,
    /// The guest kernel: a static user-mode Linux program for `uml`, a boot image for the others
    /// (an ELF file for x86-64, an Image for aarch64).
    pub kernel: PathBuf,
    /// The initramfs with the agent.
    pub initramfs: PathBuf,
    /// Block devices in the order in which the guest sees them.
    pub disks: Vec<Disk>,
    /// What each of them may do in a second.
    #[serde(default)]
    pub disk_limits: IoLimits,
    /// What each network interface may carry in a second.
    #[serde(default)]
    pub network_limits: RateLimits,
    /// What its processes may use of the host, beyond what its size says.
    #[serde(default)]
    pub host_limits: HostLimits,
    /// Host directories that the guest can mount by tag.
    pub shares: Vec<DirShare>,
    /// Hardware addresses of the network interfaces, in the order in which the guest sees
    /// them. Each is connected with [`crate::Machine::connect_network`].
    pub interfaces: Vec<[u8; 6]>,
    /// Count what starting it costs: [`crate::Machine::take_boot_trace`].
    #[serde(default)]
    pub trace_boot: bool,
    /// Let the guest kernel say everything that it does.
    #[serde(default)]
    pub verbose: bool,
    /// Go without the jail, to debug the machine's processes.
    #[serde(default)]
    pub no_jail: bool,
    /// Where the guest kernel's messages go. The file is truncated and its size is bounded.
    pub console: Option<PathBuf>,
    /// The QEMU program for `tcg`; without it the one in the usual place is taken.
    pub qemu: Option<PathBuf>,
}

/// What a network interface may carry in a second; without a number, anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimits {
    /// Bytes that the guest receives.
    #[serde(default)]
    pub received: Option<u64>,
    /// Bytes that the guest sends.
    #[serde(default)]
    pub sent: Option<u64>,
}

/// What a block device may do in a second; without a number, anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoLimits {
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Requests that read.
    pub reads: Option<u64>,
    /// Requests that write.
    pub writes: Option<u64>,
}

/// One block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What the guest reads from `/sys/block/*/serial`: up to 20 printable ASCII characters.
    pub serial: String,
    /// What is on it.
    pub source: DiskSource,
}

/// Where a block device's contents come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskSource {
    /// Read-only files composed into one disk: file `i` is partition `i + 1` of a GPT.
    Partitions(Vec<PathBuf>),
    /// A raw file that the guest writes.
    Writable {
        /// The file; its size is the disk's.
        path: PathBuf,
        /// Whether a guest flush waits until the host has the data on its disk.
        durable: bool,
    },
    /// Nothing until [`crate::Machine::adopt`] brings what is on it; until then it reads as zeros.
    Awaited {
        /// Its size in bytes, a multiple of 512: that of a writable file that will come, or more than
        /// what partitions will take.
        size: u64,
        /// Whether a writable file will come, and not partitions.
        writable: bool,
    },
}

/// A host directory that the guest can mount through virtiofs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirShare {
    /// The name to mount: up to 36 bytes.
    pub tag: String,
    /// The directory on the host. When it is a file, the guest mounts a directory with this
    /// file alone in it, under its own name.
    pub source: PathBuf,
    /// Whether the host refuses every change.
    pub read_only: bool,
}
