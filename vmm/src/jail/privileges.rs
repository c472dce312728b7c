//! Capabilities and resource limits.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{JailError, Step, is_left_off};

/// How much a process may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Open descriptors; none means as many as the host allows.
    pub(crate) descriptors: Option<u64>,
    /// Processes and threads of the machine's user. Meaningful only where that user is the
    /// machine's own.
    pub(crate) processes: Option<u64>,
}

/// What serving files to a guest's root needs: files of any owner and mode. Device nodes
/// cannot be made.
const FILE_CAPABILITIES: [Capability; 7] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
];

/// Give every capability up for good.
pub(crate) fn drop_capabilities() -> Result<(), JailError> {
    keep_capabilities(&[])
}

/// Give every capability up that is not about files' owners and modes.
pub(crate) fn keep_file_capabilities() -> Result<(), JailError> {
    keep_capabilities(&FILE_CAPABILITIES)
}

fn keep_capabilities(keep: &[Capability]) -> Result<(), JailError> {
    if is_left_off() {
        return Ok(());
    }
    let step = "drop the machine's capabilities";
    let keep: CapsHashSet = keep.iter().copied().collect();
    let none = CapsHashSet::new();
    let named = |result: Result<(), CapsError>| {
        result
            .map_err(|error| std::io::Error::other(error.to_string()))
            .step(step)
    };
    for capability in caps::all().difference(&keep) {
        named(caps::drop(None, CapSet::Bounding, *capability))?;
    }
    // Ambient ones go with the inheritable ones.
    named(caps::set(None, CapSet::Inheritable, &none))?;
    named(caps::set(None, CapSet::Effective, &keep))?;
    named(caps::set(None, CapSet::Permitted, &keep))?;
    nix::sys::prctl::set_no_new_privs().step(step)
}

/// Limit what this process and its children may use. Nothing dumps core.
pub(crate) fn limit(limits: Limits) -> Result<(), JailError> {
    if is_left_off() {
        return Ok(());
    }
    let step = "limit the machine's resources";
    setrlimit(Resource::RLIMIT_CORE, 0, 0).step(step)?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).step(step)?;
    let descriptors = limits.descriptors.map_or(most, |wanted| wanted.min(most));
    setrlimit(Resource::RLIMIT_NOFILE, descriptors, descriptors).step(step)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, 0, 0).step(step)?;
    setrlimit(Resource::RLIMIT_MSGQUEUE, 0, 0).step(step)?;
    if let Some(processes) = limits.processes {
        setrlimit(Resource::RLIMIT_NPROC, processes, processes).step(step)?;
    }
    Ok(())
}
