//! What can run a guest on this host, found out by running one.
//!
//! A device node that opens or a CPU flag that is set proves nothing: machines exist whose
//! `/dev/kvm` cannot run a kernel. So an engine is usable when a guest booted in it.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command as Program, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{EngineKind, Event, GuestArch, IoLimits, Machine, MachineConfig, VMM_ARGUMENT};

/// How long a guest may take to boot. A busy host's translator needs a few seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// The device that virtual machines are made with.
pub(crate) const KVM_DEVICE: &str = "/dev/kvm";

/// How long a guest of a few instructions may take: a thousand times what it needs. What is found
/// holds until the host reboots, so that a host that is busy for a moment must not look useless.
const KVM_DEADLINE: Duration = Duration::from_secs(5);

/// What makes a VMM process try KVM instead.
pub(crate) const ARGUMENT: &str = "--probe-kvm";

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
        EngineKind::Kvm => "the CPU's hardware boundary and the jail around the VMM",
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
        EngineKind::Uml | EngineKind::Kvm => engine.to_string(),
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
        disk_limits: IoLimits::default(),
        network_limits: crate::RateLimits::default(),
        host_limits: crate::HostLimits::default(),
        trace_boot: false,
        verbose: false,
        no_jail: false,
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

/// Find out whether `/dev/kvm` really runs guests: a process of its own makes one that
/// executes what kernels execute, and gets [`KVM_DEADLINE`] for it.
pub fn probe_kvm() -> Probe {
    let (usable, finding) = match try_kvm() {
        Ok(finding) => (true, finding),
        Err(finding) => (false, finding),
    };
    Probe {
        name: "kvm".to_owned(),
        usable,
        boot: None,
        finding,
        isolation: isolation(EngineKind::Kvm),
    }
}

fn try_kvm() -> Result<String, String> {
    let opened = OpenOptions::new().read(true).write(true).open(KVM_DEVICE);
    let device = opened.map_err(|error| not_opened(&error))?;
    let failed = |error: io::Error| format!("cannot try {KVM_DEVICE}: {error}");
    let mut child = Program::new("/proc/self/exe")
        .args([VMM_ARGUMENT, ARGUMENT])
        .env_clear()
        .stdin(Stdio::from(device))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut answer = String::new();
    let told = match child.stdout.take() {
        Some(mut pipe) => within(KVM_DEADLINE, &pipe)
            .and_then(|ready| {
                if ready {
                    pipe.by_ref().take(1000).read_to_string(&mut answer)?;
                }
                Ok(ready)
            })
            .map_err(failed)?,
        None => false,
    };
    // Fails only when it is gone already, which is what is wanted.
    let _ = child.kill();
    let status = child.wait().map_err(failed)?;
    let answer = answer.trim().to_owned();
    match (told, status.success()) {
        (true, true) => Ok(answer),
        (true, false) if !answer.is_empty() => Err(format!("{KVM_DEVICE} opens, but {answer}")),
        (true, false) => Err(format!(
            "{KVM_DEVICE} opens, but trying it failed ({status})"
        )),
        (false, _) => Err(format!(
            "{KVM_DEVICE} opens, but a guest of a few instructions did not end within {} s: \
             this host emulates privileged code, no kernel gets anywhere on it",
            KVM_DEADLINE.as_secs()
        )),
    }
}

/// Wait until a pipe has something to say or is closed.
fn within(deadline: Duration, pipe: &impl AsFd) -> io::Result<bool> {
    let end = Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn not_opened(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{KVM_DEVICE} is not there: virtualization is off in this host's firmware, or its \
             kernel module (kvm_intel, kvm_amd) is not loaded, or this is a virtual machine \
             without nested virtualization"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{KVM_DEVICE} is there, but this user may not open it: add the user to the group \
             that owns it (often kvm) and log in again"
        ),
        _ => format!("{KVM_DEVICE} cannot be opened: {error}"),
    }
}

/// Be the process that tries: what [`crate::vmm_main`] does for [`ARGUMENT`]. The device is
/// standard input; the finding goes to standard output.
pub(crate) fn probe_main() -> ExitCode {
    match found() {
        Ok(finding) => {
            println!("{finding}");
            ExitCode::SUCCESS
        }
        Err(finding) => {
            println!("{finding}");
            ExitCode::FAILURE
        }
    }
}

fn found() -> Result<String, String> {
    let device = io::stdin().as_fd().try_clone_to_owned();
    crate::kvm::probe::run(device.map_err(|error| error.to_string())?.into())
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
    fn a_device_that_does_not_open_is_explained() {
        for (kind, advice) in [
            (io::ErrorKind::NotFound, "firmware"),
            (io::ErrorKind::PermissionDenied, "group"),
            (io::ErrorKind::ResourceBusy, "cannot be opened"),
        ] {
            let text = not_opened(&kind.into());
            assert!(text.contains(advice) && text.contains(KVM_DEVICE), "{text}");
        }
    }

    #[test]
    fn waiting_for_an_answer_ends() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(!within(Duration::ZERO, &reader).unwrap());
        drop(writer);
        assert!(within(Duration::from_secs(3600), &reader).unwrap());
    }
}
