//! Capabilities of a process, applied in the order that runc does.

use guest_agent::protocol::AgentError;
use guest_agent::protocol::runtime::Capabilities;

use crate::error::{Result, guest, invalid, reason};
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
    pub fn new(sets: &Capabilities) -> Result<Self> {
        Ok(Self {
            bounding: bits(&sets.bounding)?,
            effective: bits(&sets.effective)?,
            permitted: bits(&sets.permitted)?,
            inheritable: bits(&sets.inheritable)?,
            ambient: bits(&sets.ambient)?,
        })
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

/// The kernel's names, each at its number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn bits(set: &[String]) -> Result<u64> {
    set.iter().try_fold(0, |bits, name| {
        let number = name
            .strip_prefix("CAP_")
            .and_then(|bare| NAMES.iter().position(|known| *known == bare));
        let number = number.ok_or_else(|| invalid(format!("unknown capability {name}")))?;
        Ok(bits | 1 << number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_become_bits() {
        let set = ["CAP_CHOWN", "CAP_SYSLOG", "CAP_CHECKPOINT_RESTORE"].map(str::to_owned);
        assert_eq!(bits(&set).unwrap(), 1 | 1 << 34 | 1 << 40);
        assert_eq!(bits(&[]).unwrap(), 0);
        let error = bits(&["CAP_FLY".to_owned()]).unwrap_err();
        assert_eq!(error.message, "unknown capability CAP_FLY");
        let none = Wanted::new(&Capabilities::default()).unwrap();
        assert_eq!(none, Wanted::default());
    }
}
