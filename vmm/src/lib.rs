//! One virtual machine: CPU engines, boot, virtio devices and the jail around them.
//!
//! A [`Machine`] is started from a [`MachineConfig`]. It is a process of its own (the VMM
//! process, [`vmm_main`]), which serves the virtual devices and keeps the guest kernel's
//! process as its child. Both are jailed. The creator holds one control channel: it hands
//! connections into the guest over it and reads [`Event`]s from it; when the channel
//! closes, the machine dies.

mod child;
mod config;
mod control;
mod devices;
mod engine;
mod event;
mod eventfd;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod jail;
mod kvm;
mod launch;
mod limits;
mod machine;
mod poll;
mod probe;
mod process;
mod trace;
mod transport;

#[cfg(feature = "misbehave")]
pub use jail::misbehave;

pub use config::{
    DirShare, Disk, DiskSource, EngineKind, GuestArch, IoLimits, MAX_INTERFACES, MAX_PARTITIONS,
    MAX_SERIAL, MAX_TAG, MachineConfig, NetworkPlace, RateLimits, UnknownEngine,
};
pub use event::{Event, StopReason};
pub use jail::{HostCalls, LimitError, host_calls, landlock, probe_limits, remove_limits};
pub use limits::{CpuQuota, HostLimits};
pub use machine::{ConnectError, EventError, Machine, Spare, StartError};
pub use probe::{Probe, isolation, probe, probe_kvm};
pub use process::vmm_main;
pub use trace::{BootStep, BootTrace, RegisterUse};

/// The first argument that makes the `hull` program be a VMM process.
pub const VMM_ARGUMENT: &str = "__vmm";
