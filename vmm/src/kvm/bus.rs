//! What a guest's loads and stores outside of its memory reach.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::trace;
use crate::transport::TransportError;
use crate::transport::mmio::{Mmio, PAGE};

/// Where a device is, and its interrupt's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceSlot {
    pub(crate) address: u64,
    pub(crate) line: u32,
}

/// The registers of a 16550 UART that the kernel's early console uses: the one that takes a
/// byte, and the one that says that it can.
const TRANSMIT: u64 = 0;
const LINE_STATUS: u64 = 5;
/// How many it has.
const UART_REGISTERS: u64 = 8;

/// "Everything is sent."
const TRANSMITTER_EMPTY: u8 = 0x60;

/// The most bytes of a line that are kept before they are passed on.
const MAX_LINE: usize = 256;

/// Everything that is not memory.
#[derive(Debug)]
pub(crate) struct Bus {
    base: u64,
    devices: Vec<Arc<Mmio>>,
    console: Mutex<Uart>,
}

impl Bus {
    /// Devices from `base` on, each with a page; what the kernel says goes to `console`.
    pub(super) fn new(base: u64, devices: Vec<Arc<Mmio>>, console: File) -> Self {
        let line = Vec::new();
        Self {
            base,
            devices,
            console: Mutex::new(Uart {
                output: console,
                line,
            }),
        }
    }

    fn device(&self, address: u64, write: bool) -> Option<(&Mmio, u64)> {
        let distance = address.checked_sub(self.base)?;
        let index = usize::try_from(distance / PAGE).ok()?;
        let device = self.devices.get(index)?;
        if let Some(tracer) = trace::get() {
            tracer.register(index, distance % PAGE, write);
        }
        Some((device, distance % PAGE))
    }

    /// Read device registers. Where nothing is, zeros are read.
    pub(super) fn read(&self, address: u64, data: &mut [u8]) {
        match self.device(address, false) {
            Some((device, at)) => device.read(at, data),
            None => data.fill(0),
        }
    }

    /// Write device registers. Where nothing is, nothing happens.
    pub(super) fn write(&self, address: u64, data: &[u8]) -> Result<(), TransportError> {
        match self.device(address, true) {
            Some((device, at)) => device.write(at, data),
            None => Ok(()),
        }
    }

    /// Read a register of the UART.
    pub(super) fn uart_read(&self, register: u64, data: &mut [u8]) {
        data.fill(0);
        if register == LINE_STATUS
            && let Some(byte) = data.first_mut()
        {
            *byte = TRANSMITTER_EMPTY;
        }
    }

    /// Write a register of the UART.
    pub(super) fn uart_write(&self, register: u64, data: &[u8]) {
        if register == TRANSMIT {
            self.uart().put(data);
        }
    }

    /// Whether this is one of the UART's registers, counted from its first.
    pub(super) fn is_uart(register: u64) -> bool {
        register < UART_REGISTERS
    }

    /// Pass on what the kernel has said without ending the line.
    pub(super) fn flush(&self) {
        self.uart().flush();
    }

    fn uart(&self) -> std::sync::MutexGuard<'_, Uart> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Uart {
    output: File,
    line: Vec<u8>,
}

impl Uart {
    fn put(&mut self, bytes: &[u8]) {
        self.line.extend_from_slice(bytes);
        if self.line.len() >= MAX_LINE || self.line.last() == Some(&b'\n') {
            self.flush();
        }
    }

    fn flush(&mut self) {
        // The reader is this process; when it is gone, so are we.
        let _ = self.output.write_all(&self.line);
        self.line.clear();
    }
}
