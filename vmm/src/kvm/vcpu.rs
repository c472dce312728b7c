//! One CPU: run it until it needs something, and say how it ended.

use std::sync::Arc;

use kvm_ioctls::{VcpuExit, VcpuFd};

use super::{Bus, arch};
use crate::trace::{self, CpuClock, Exit};

/// How a guest ended, as one of its CPUs saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The guest switched itself off.
    PowerOff,
    /// The guest restarted itself.
    Reset,
    /// The CPU gave up: an error while it handled an error while it handled an error.
    TripleFault,
    /// The guest said that it has crashed.
    Crash,
    /// KVM cannot go on, for this reason.
    Internal(String),
    /// The hardware refused the CPU's state.
    Refused(u64),
    /// A device of the guest is broken.
    Device(String),
    /// KVM failed.
    Failed(String),
}

const NO_EMULATION: &str = "it cannot emulate an instruction of the guest's";

/// A CPU and what it reaches.
#[derive(Debug)]
pub(crate) struct Vcpu {
    fd: VcpuFd,
    bus: Arc<Bus>,
    clock: Option<CpuClock>,
}

impl Vcpu {
    pub(super) fn new(fd: VcpuFd, bus: Arc<Bus>) -> Self {
        let clock = trace::get().map(trace::Tracer::cpu);
        Self { fd, bus, clock }
    }

    /// Run until the guest ends.
    pub(crate) fn run(mut self) -> End {
        let end = loop {
            if let Some(end) = self.step() {
                break end;
            }
        };
        self.bus.flush();
        end
    }

    /// Run until the CPU needs something, and do that.
    fn step(&mut self) -> Option<End> {
        if let Some(clock) = &mut self.clock {
            clock.enter();
        }
        let exit = self.fd.run();
        if let Some(clock) = &mut self.clock {
            clock.leave();
        }
        if let Some(tracer) = trace::get() {
            tracer.exit(kind(&exit));
            #[cfg(target_arch = "x86_64")]
            match &exit {
                Ok(VcpuExit::IoIn(port, _)) => tracer.port(*port, false),
                Ok(VcpuExit::IoOut(port, _)) => tracer.port(*port, true),
                _ => {}
            }
        }
        let exit = match exit {
            Ok(exit) => exit,
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => return None,
            // How arm64's KVM says it: the instruction cannot be told from what it did.
            Err(error) if error.errno() == libc::ENOSYS => {
                return Some(End::Internal(NO_EMULATION.to_owned()));
            }
            Err(error) => return Some(End::Failed(error.to_string())),
        };
        match exit {
            VcpuExit::MmioRead(address, data) => {
                if let Some(register) = arch::mmio_uart(address) {
                    self.bus.uart_read(register, data);
                } else {
                    self.bus.read(address, data);
                }
                None
            }
            VcpuExit::MmioWrite(address, data) => {
                if let Some(register) = arch::mmio_uart(address) {
                    self.bus.uart_write(register, data);
                    return None;
                }
                let result = self.bus.write(address, data);
                result.err().map(|error| End::Device(error.to_string()))
            }
            #[cfg(target_arch = "x86_64")]
            VcpuExit::IoIn(port, data) => {
                match arch::port_uart(port) {
                    Some(register) => self.bus.uart_read(register, data),
                    None => data.fill(arch::absent_port(port)),
                }
                None
            }
            #[cfg(target_arch = "x86_64")]
            VcpuExit::IoOut(port, data) => {
                if arch::is_reset(port, data) {
                    return Some(End::Reset);
                }
                if let Some(register) = arch::port_uart(port) {
                    self.bus.uart_write(register, data);
                }
                None
            }
            VcpuExit::SystemEvent(kind, _) => Some(match kind {
                kvm_bindings::KVM_SYSTEM_EVENT_SHUTDOWN => End::PowerOff,
                kvm_bindings::KVM_SYSTEM_EVENT_RESET => End::Reset,
                kvm_bindings::KVM_SYSTEM_EVENT_CRASH => End::Crash,
                other => End::Failed(format!("unknown system event {other}")),
            }),
            VcpuExit::Shutdown => Some(End::TripleFault),
            VcpuExit::InternalError => Some(End::Internal(internal_error(&mut self.fd))),
            VcpuExit::FailEntry(reason, _) => Some(End::Refused(reason)),
            VcpuExit::Intr => None,
            other => Some(End::Failed(format!("unexpected exit {other:?}"))),
        }
    }
}

/// What an exit is counted as.
fn kind(exit: &Result<VcpuExit<'_>, kvm_ioctls::Error>) -> Exit {
    match exit {
        Ok(VcpuExit::MmioRead(..)) => Exit::DeviceRead,
        Ok(VcpuExit::MmioWrite(..)) => Exit::DeviceWrite,
        Ok(VcpuExit::IoIn(..)) => Exit::PortRead,
        Ok(VcpuExit::IoOut(..)) => Exit::PortWrite,
        _ => Exit::Other,
    }
}

/// What KVM says about an error of its own.
fn internal_error(fd: &mut VcpuFd) -> String {
    // SAFETY: the exit reason says that this is the union's valid part, and it is nothing
    // but numbers, for which every pattern is valid.
    let code = unsafe { fd.get_kvm_run().__bindgen_anon_1.internal.suberror };
    match code {
        kvm_bindings::KVM_INTERNAL_ERROR_EMULATION => NO_EMULATION.to_owned(),
        kvm_bindings::KVM_INTERNAL_ERROR_SIMUL_EX => {
            "two exceptions of the guest at once".to_owned()
        }
        kvm_bindings::KVM_INTERNAL_ERROR_DELIVERY_EV => {
            "an event could not be delivered to the guest".to_owned()
        }
        other => format!("code {other}"),
    }
}
