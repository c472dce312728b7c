//! virtio-mmio: the guest of our own VMM reaches each device through a page of registers.
//!
//! Two kinds of threads come here. CPUs read and write registers. The device thread serves
//! the queues; a guest's notification reaches it as an eventfd, an interrupt leaves it as
//! one, so that neither stops a CPU. Whoever comes second waits until the other is done, but
//! for the interrupt's register, which needs no waiting.

mod backend;
mod local;
mod registers;
mod remote;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backend::Backend;
use local::Local;
pub(crate) use registers::offset;
use registers::{Action, Identity, Registers};
pub(crate) use remote::{Remote, SharedMemory};

use super::{Transport, TransportError};
use crate::devices::{InterruptLine, Memory, VirtioDevice, kind};
use crate::eventfd;
use crate::poll::{Poller, Ready};
use crate::trace;

/// The size of a device's page of registers.
pub(crate) const PAGE: u64 = 0x1000;

/// One device behind a page of registers.
#[derive(Debug)]
pub(crate) struct Mmio {
    line: Arc<InterruptLine>,
    kicks: Vec<File>,
    memory: Memory,
    port: Mutex<Port>,
}

#[derive(Debug)]
struct Port {
    registers: Registers,
    backend: Box<dyn Backend>,
}

impl Mmio {
    /// Serve a device of this process. `poller` reports the guest's notifications, and must
    /// belong to this transport alone.
    pub(crate) fn local(
        device: Box<dyn VirtioDevice>,
        memory: Memory,
        poller: &Poller,
    ) -> Result<Self, TransportError> {
        let kicks = eventfds(device.queues())?;
        for (index, kick) in kicks.iter().enumerate() {
            poller.watch_edges(kick.as_fd(), index as u32)?;
        }
        let line = Arc::new(InterruptLine::new(eventfd::new()?));
        let backend = Local::new(device, memory.clone(), duplicates(&kicks)?, line.clone())?;
        Ok(Self::new(Box::new(backend), memory, kicks, line))
    }

    /// Pass a device of another process on.
    pub(crate) fn remote(remote: Remote, memory: Memory) -> Result<Self, TransportError> {
        let kicks = eventfds(Backend::queues(&remote))?;
        let line = Arc::new(InterruptLine::of_another_process(eventfd::new()?));
        let remote = remote.with_events(duplicates(&kicks)?, line.clone());
        Ok(Self::new(Box::new(remote), memory, kicks, line))
    }

    fn new(
        backend: Box<dyn Backend>,
        memory: Memory,
        kicks: Vec<File>,
        line: Arc<InterruptLine>,
    ) -> Self {
        let identity = Identity {
            kind: backend.kind(),
            features: backend.features(),
        };
        let registers = Registers::new(identity, backend.queues());
        Self {
            line,
            kicks,
            memory,
            port: Mutex::new(Port { registers, backend }),
        }
    }

    /// The eventfds that notifications of the queues arrive at.
    pub(crate) fn kicks(&self) -> &[File] {
        &self.kicks
    }

    /// The interrupt.
    pub(crate) fn line(&self) -> &InterruptLine {
        &self.line
    }

    fn port(&self) -> MutexGuard<'_, Port> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A CPU reads registers.
    pub(crate) fn read(&self, at: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(at) = at.checked_sub(offset::CONFIG) {
            self.port().backend.read_config(at as usize, data);
            return;
        }
        // Registers are read as words, or not at all.
        if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            let value = match at {
                offset::INTERRUPT_STATUS => self.line.status(),
                at => self.port().registers.read(at),
            };
            *word = value.to_le_bytes();
        }
    }

    /// A CPU writes registers.
    pub(crate) fn write(&self, at: u64, data: &[u8]) -> Result<(), TransportError> {
        let Ok(word) = <[u8; 4]>::try_from(data) else {
            return Ok(());
        };
        let value = u32::from_le_bytes(word);
        match at {
            offset::INTERRUPT_ACK => {
                self.line.acknowledge(value);
                return Ok(());
            }
            // The hypervisor takes those of existing queues; no device has a configuration
            // that can be written.
            offset::QUEUE_NOTIFY | offset::CONFIG.. => return Ok(()),
            _ => {}
        }
        let mut port = self.port();
        let Port { registers, backend } = &mut *port;
        match registers.write(at, value, &self.memory) {
            Action::Nothing => Ok(()),
            Action::Start => {
                if let Some(tracer) = trace::get() {
                    tracer.step(format!("{} is started", kind::name(backend.kind())));
                }
                backend.start(registers.features(), registers.queues())
            }
            Action::Stop(index) => backend.stop(index),
            Action::Reset => {
                backend.reset()?;
                self.line.acknowledge(u32::MAX);
                Ok(())
            }
        }
    }
}

impl Transport for Arc<Mmio> {
    fn transport_event(&mut self, ready: Ready) -> Result<(), TransportError> {
        self.port().backend.kick(ready.token as usize)
    }

    fn device_event(&mut self, ready: Ready) -> Result<(), TransportError> {
        self.port().backend.device_event(ready)
    }

    fn connect(&mut self, port: u32, stream: UnixStream) -> Result<(), TransportError> {
        self.port().backend.connect(port, stream)
    }

    fn attach(&mut self, place: u16, file: Option<File>) -> Result<(), TransportError> {
        self.port().backend.attach(place, file)
    }
}

fn eventfds(count: usize) -> io::Result<Vec<File>> {
    (0..count).map(|_| eventfd::new()).collect()
}

fn duplicates(files: &[File]) -> io::Result<Vec<File>> {
    files.iter().map(File::try_clone).collect()
}
