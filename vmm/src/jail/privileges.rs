//! Capabilities and resource limits.

use nix::sys::resource::{Resource, setrlimit};

use super::{JailError, Step};

/// How much a process may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Open descriptors.
    pub(crate) descriptors: u64,
    /// Processes and threads of the machine's user. Meaningful only where that user is the
    /// machine's own.
    pub(crate) processes: Option<u64>,
}

/// Give every capability up for good.
pub(crate) fn drop_capabilities() -> Result<(), JailError> {
    let step = "drop the machine's capabilities";
    let clear = |set| {
        caps::clear(None, set)
            .map_err(|error| std::io::Error::other(error.to_string()))
            .step(step)
    };
    clear(caps::CapSet::Bounding)?;
    clear(caps::CapSet::Ambient)?;
    caps::set(None, caps::CapSet::Inheritable, &caps::CapsHashSet::new())
        .map_err(|error| std::io::Error::other(error.to_string()))
        .step(step)?;
    clear(caps::CapSet::Effective)?;
    clear(caps::CapSet::Permitted)?;
    nix::sys::prctl::set_no_new_privs().step(step)
}

/// Limit what this process and its children may use. Nothing dumps core.
pub(crate) fn limit(limits: Limits) -> Result<(), JailError> {
    let step = "limit the machine's resources";
    setrlimit(Resource::RLIMIT_CORE, 0, 0).step(step)?;
    setrlimit(
        Resource::RLIMIT_NOFILE,
        limits.descriptors,
        limits.descriptors,
    )
    .step(step)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, 0, 0).step(step)?;
    setrlimit(Resource::RLIMIT_MSGQUEUE, 0, 0).step(step)?;
    if let Some(processes) = limits.processes {
        setrlimit(Resource::RLIMIT_NPROC, processes, processes).step(step)?;
    }
    Ok(())
}
