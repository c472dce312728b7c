//! Capabilities of a process, applied in the order that runc does.

use guest_agent::protocol::AgentError;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use crate::error::{Result, guest, reason};
use crate::sys::cred::{self, CapabilitySets};

/// Capability sets as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Wanted {
    /// The sets of the specification; a process without any gets none.
    pub fn new(capabilities: Option<&LinuxCapabilities>) -> Self {
        let Some(sets) = capabilities else {
            return Self::default();
        };
        Self {
            bounding: bits(sets.bounding().as_ref()),
            effective: bits(sets.effective().as_ref()),
            permitted: bits(sets.permitted().as_ref()),
            inheritable: bits(sets.inheritable().as_ref()),
            ambient: bits(sets.ambient().as_ref()),
        }
    }

    /// Before the user changes: shrink the bounding set, and keep what is permitted.
    pub fn before_user(&self) -> Result<()> {
        for capability in 0..u64::BITS {
            if self.bounding & (1 << capability) == 0
                && !cred::drop_bounding(capability).map_err(failed)?
            {
                break;
            }
        }
        cred::set_keep_capabilities(true).map_err(failed)
    }

    /// After the user changed: set what is left, and raise the ambient set.
    pub fn after_user(&self) -> Result<()> {
        cred::set_capabilities(CapabilitySets {
            effective: self.effective,
            permitted: self.permitted,
            inheritable: self.inheritable,
        })
        .map_err(failed)?;
        for capability in 0..u64::BITS {
            // What is not both permitted and inheritable cannot be ambient; runc lets it go.
            let possible = self.permitted & self.inheritable & self.ambient;
            if possible & (1 << capability) != 0 {
                cred::raise_ambient(capability).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn failed(errno: nix::errno::Errno) -> AgentError {
    guest("cannot set the capabilities", reason(errno))
}

fn bits(set: Option<&Capabilities>) -> u64 {
    set.into_iter()
        .flatten()
        .fold(0, |bits, capability| bits | 1 << number(*capability))
}

/// The kernel's number.
fn number(capability: Capability) -> u32 {
    match capability {
        Capability::Chown => 0,
        Capability::DacOverride => 1,
        Capability::DacReadSearch => 2,
        Capability::Fowner => 3,
        Capability::Fsetid => 4,
        Capability::Kill => 5,
        Capability::Setgid => 6,
        Capability::Setuid => 7,
        Capability::Setpcap => 8,
        Capability::LinuxImmutable => 9,
        Capability::NetBindService => 10,
        Capability::NetBroadcast => 11,
        Capability::NetAdmin => 12,
        Capability::NetRaw => 13,
        Capability::IpcLock => 14,
        Capability::IpcOwner => 15,
        Capability::SysModule => 16,
        Capability::SysRawio => 17,
        Capability::SysChroot => 18,
        Capability::SysPtrace => 19,
        Capability::SysPacct => 20,
        Capability::SysAdmin => 21,
        Capability::SysBoot => 22,
        Capability::SysNice => 23,
        Capability::SysResource => 24,
        Capability::SysTime => 25,
        Capability::SysTtyConfig => 26,
        Capability::Mknod => 27,
        Capability::Lease => 28,
        Capability::AuditWrite => 29,
        Capability::AuditControl => 30,
        Capability::Setfcap => 31,
        Capability::MacOverride => 32,
        Capability::MacAdmin => 33,
        Capability::Syslog => 34,
        Capability::WakeAlarm => 35,
        Capability::BlockSuspend => 36,
        Capability::AuditRead => 37,
        Capability::Perfmon => 38,
        Capability::Bpf => 39,
        Capability::CheckpointRestore => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_become_bits() {
        let set = Capabilities::from([Capability::Chown, Capability::Syslog]);
        assert_eq!(bits(Some(&set)), 1 | 1 << 34);
        assert_eq!(bits(None), 0);
        assert_eq!(Wanted::new(None), Wanted::default());
    }
}
