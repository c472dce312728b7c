//! Interrupting the guest.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::DeviceError;

/// A way to interrupt the guest.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// An eventfd or a pipe that takes 8 bytes, of a front end elsewhere.
    Descriptor(File),
    /// A line of our own machine.
    Line(Arc<InterruptLine>),
}

impl Interrupt {
    /// Over a descriptor that must not block.
    pub(crate) fn new(file: File) -> Self {
        Self::Descriptor(file)
    }

    /// Interrupt the guest. Never waits.
    pub(crate) fn trigger(&self) -> Result<(), DeviceError> {
        let result = match self {
            Self::Descriptor(file) => signal(file),
            Self::Line(line) => line.raise(),
        };
        result.map_err(DeviceError::Interrupt)
    }
}

fn signal(mut file: &File) -> io::Result<()> {
    loop {
        match file.write(&1u64.to_ne_bytes()) {
            Ok(_) => return Ok(()),
            // It is full of interrupts that the guest has not looked at yet.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The guest is going away; its end is noticed elsewhere.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// The bit that says that a queue has used buffers.
const USED_BUFFERS: u32 = 1;

/// The interrupt of one device with registers: the register that says why, and the eventfd
/// that the hypervisor turns into an interrupt. The guest reads and clears the register
/// without waiting for the device, which may be at work.
#[derive(Debug)]
pub(crate) struct InterruptLine {
    event: File,
    status: AtomicU32,
    /// Bits that are always set: for a device in another process, which cannot set them.
    always: u32,
}

impl InterruptLine {
    /// A line over an eventfd that never blocks.
    pub(crate) fn new(event: File) -> Self {
        Self {
            event,
            status: AtomicU32::new(0),
            always: 0,
        }
    }

    /// The line of a device that raises the interrupt itself, from another process. Its
    /// driver is told to look at the queues every time, which the standard allows.
    pub(crate) fn of_another_process(event: File) -> Self {
        Self {
            always: USED_BUFFERS,
            ..Self::new(event)
        }
    }

    /// The eventfd.
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Say that a queue has used buffers. Never waits.
    fn raise(&self) -> io::Result<()> {
        self.status.fetch_or(USED_BUFFERS, Ordering::Release);
        signal(&self.event)
    }

    /// The register.
    pub(crate) fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire) | self.always
    }

    /// The driver has seen these.
    pub(crate) fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::AcqRel);
    }
}
