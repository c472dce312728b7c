//! What can run a guest on this host, found out by running one.
//!
//! A device node that opens or a CPU flag that is set proves nothing: machines exist whose
//! `/dev/kvm` cannot run a kernel. So an engine is usable when a guest booted in it.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{EngineKind, Event, GuestArch, Machine, MachineConfig};

/// How long a guest may take to boot. A busy host's translator needs a few seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// `KVM_GET_API_VERSION`.
const KVM_GET_API_VERSION: libc::c_ulong = 0xae00;

/// What was found out about one way to run guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What was tried: an engine's name, with the guest's architecture where that differs
    /// from case to case.
    pub name: String,
    /// Whether guests run.
    pub usable: bool,
    /// How long the guest took from its start until its agent listened.
    pub boot: Option<Duration>,
    /// What was found, in one sentence that ends without a full stop.
    pub finding: String,
    /// What stands between a hostile guest and the host.
    pub isolation: &'static str,
}

/// What an engine's isolation is worth, in one sentence.
pub const fn isolation(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Uml => {
            "a kernel of its own and the jail around it, but no hardware boundary: \
             what gVisor has, not what a virtual machine has"
        }
        EngineKind::Tcg => "an emulated CPU and the jail around the emulator",
    }
}

/// Boot a guest with an engine and say how that went. The kernel and the initramfs are
/// those that guests would be started with.
pub fn probe(
    engine: EngineKind,
    arch: GuestArch,
    kernel: &Path,
    initramfs: &Path,
    qemu: Option<&Path>,
) -> Probe {
    let name = match engine {
        EngineKind::Uml => engine.to_string(),
        EngineKind::Tcg => format!("{engine} ({arch})"),
    };
    let config = MachineConfig {
        name: "probe".to_owned(),
        engine,
        arch,
        memory_mib: 128,
        cpus: 1,
        kernel: kernel.to_owned(),
        initramfs: initramfs.to_owned(),
        disks: Vec::new(),
        shares: Vec::new(),
        interfaces: Vec::new(),
        console: None,
        qemu: qemu.map(Path::to_owned),
    };
    let (boot, finding) = match boot(&config, DEADLINE) {
        Ok(time) => (
            Some(time),
            format!("a guest booted in {} ms", time.as_millis()),
        ),
        Err(finding) => (None, finding),
    };
    Probe {
        name,
        usable: boot.is_some(),
        boot,
        finding,
        isolation: isolation(engine),
    }
}

/// Start a machine and wait until its agent listens.
fn boot(config: &MachineConfig, deadline: Duration) -> Result<Duration, String> {
    let start = Instant::now();
    let mut machine = Machine::start(config).map_err(|error| error.to_string())?;
    loop {
        let left = deadline.saturating_sub(start.elapsed());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(machine.control_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) => {
                return Err(format!(
                    "a guest did not come up within {} s: the host is too slow or too busy",
                    deadline.as_secs()
                ));
            }
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(format!("cannot wait for the guest: {errno}")),
        }
        match machine.next_event().map_err(|error| error.to_string())? {
            Event::Ready => return Ok(start.elapsed()),
            Event::Stopped(reason) => return Err(format!("a guest did not come up: {reason}")),
        }
    }
}

/// Say what `/dev/kvm` is. This version has no engine that uses it.
pub fn probe_kvm() -> Probe {
    let path = "/dev/kvm";
    let finding = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) => format!("{path} cannot be opened: {error}"),
        Ok(device) => {
            // SAFETY: this request takes no argument and changes nothing.
            let version = unsafe { libc::ioctl(device.as_raw_fd(), KVM_GET_API_VERSION as _, 0) };
            if version < 0 {
                format!("{path} is no KVM: {}", std::io::Error::last_os_error())
            } else {
                format!("{path} opens (API version {version}), but this version does not use it")
            }
        }
    };
    Probe {
        name: "kvm".to_owned(),
        usable: false,
        boot: None,
        finding,
        isolation: "hardware and the jail around the VMM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let nowhere = Path::new("/nonexistent/kernel");
        let engine = if std::env::consts::ARCH == "x86_64" {
            EngineKind::Uml
        } else {
            EngineKind::Tcg
        };
        let probe = probe(engine, GuestArch::X86_64, nowhere, nowhere, None);
        assert!(!probe.usable && probe.boot.is_none());
        assert!(
            probe.finding.contains("/nonexistent/kernel"),
            "{}",
            probe.finding
        );
    }

    #[test]
    fn kvm_is_never_called_usable() {
        let probe = probe_kvm();
        assert!(!probe.usable);
        assert!(probe.finding.contains("/dev/kvm"));
    }
}
