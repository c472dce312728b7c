//! The guest kernel's messages: kept on disk up to a limit, and the last of them in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// The most bytes that are written to the file.
const MAX_FILE: usize = 1 << 20;

/// The last bytes that are remembered.
const MAX_TAIL: usize = 8 << 10;

/// Where the guest kernel's messages go.
#[derive(Debug)]
pub(super) struct Console {
    pipe: File,
    file: Option<File>,
    written: usize,
    tail: VecDeque<u8>,
}

impl Console {
    /// Read messages from a pipe and copy them to a file.
    pub(super) fn new(pipe: File, file: Option<File>) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&pipe, FcntlArg::F_GETFL)?);
        fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self {
            pipe,
            file,
            written: 0,
            tail: VecDeque::new(),
        })
    }

    /// The pipe, to wait for it.
    pub(super) fn pipe(&self) -> &File {
        &self.pipe
    }

    /// Take in what there is; false at the end of the pipe. A guest that writes without end
    /// gets its turn only once per call.
    pub(super) fn pump(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    self.keep(buffer.get(..n).unwrap_or_default());
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Take in everything that is left when nobody writes any more.
    pub(super) fn drain(&mut self) {
        // A pipe holds 64 KiB; a writer that outlives its machine's end is not waited for.
        for _ in 0..64 {
            if !self.pump() {
                break;
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_FILE.saturating_sub(self.written).min(bytes.len());
        if let Some(file) = &mut self.file {
            // A console that cannot be written (a full disk) does not stop the machine.
            let _ = file.write_all(bytes.get(..room).unwrap_or_default());
            self.written += room;
        }
        self.tail.extend(bytes);
        let excess = self.tail.len().saturating_sub(MAX_TAIL);
        self.tail.drain(..excess);
    }

    /// The last messages, with everything that is not printable left out.
    pub(super) fn tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        text.chars()
            .filter(|c| *c == '\n' || !c.is_control())
            .collect()
    }
}
