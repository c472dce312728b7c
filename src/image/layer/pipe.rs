//! A bounded pipe of large buffers between two threads; buffers go round.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use sha2::{Digest as _, Sha256};

use crate::image::digest::Digest;

/// Bytes in a buffer.
pub const BUFFER: usize = 256 << 10;
/// Full buffers that may wait: enough that neither side stops for the other's small pauses.
const WAITING: usize = 8;

/// The end that data goes into.
#[derive(Debug)]
pub struct PipeWriter {
    full: SyncSender<io::Result<Vec<u8>>>,
    empty: Receiver<Vec<u8>>,
}

/// The end that data comes out of.
#[derive(Debug)]
pub struct PipeReader {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    used: usize,
    hasher: Option<Sha256>,
}

/// Both ends of a new pipe.
pub fn pipe() -> (PipeWriter, PipeReader) {
    let (full_in, full_out) = sync_channel(WAITING);
    let (empty_in, empty_out) = channel();
    let reader = PipeReader {
        full: full_out,
        empty: empty_in,
        buffer: Vec::new(),
        used: 0,
        hasher: None,
    };
    (
        PipeWriter {
            full: full_in,
            empty: empty_out,
        },
        reader,
    )
}

impl PipeWriter {
    /// Passes on everything that `input` yields. Before each buffer `check` is asked with the
    /// number of bytes so far. Returns early without an error when the reader is gone.
    pub fn pump<R: Read, E>(
        self,
        input: &mut R,
        mut check: impl FnMut(&R, u64) -> Result<(), E>,
        failure: impl FnOnce(&R, io::Error) -> E,
    ) -> Result<u64, E> {
        let mut total = 0;
        loop {
            let mut buffer = self.empty.try_recv().unwrap_or_default();
            buffer.resize(BUFFER, 0);
            let (length, error) = fill(input, &mut buffer);
            total += length as u64;
            let checked = check(input, total);
            if checked.is_err() || error.is_some() {
                // The reader must not take this for the end of the data.
                let _ = self.full.send(Err(io::ErrorKind::BrokenPipe.into()));
            }
            checked?;
            if let Some(error) = error {
                return Err(failure(input, error));
            }
            buffer.truncate(length);
            if length == 0 || self.full.send(Ok(buffer)).is_err() {
                return Ok(total);
            }
        }
    }
}

/// Reads until `buffer` is full, the input ends or it fails.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut length = 0;
    while length < buffer.len() {
        match input.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (length, Some(error)),
        }
    }
    (length, None)
}

impl PipeReader {
    /// Hashes what comes from here on, if `hash` says so.
    pub fn hashed(mut self, hash: bool) -> Self {
        self.hasher = hash.then(Sha256::new);
        self
    }

    /// The digest of what came, if it was hashed.
    pub fn digest(self) -> Option<Digest> {
        self.hasher.map(Digest::from_hasher)
    }

    /// Reads to the end.
    pub fn drain(&mut self) -> io::Result<()> {
        while !self.fill_buf()?.is_empty() {
            self.used = self.buffer.len();
        }
        Ok(())
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len()
            && let Ok(next) = self.full.recv()
        {
            let next = next?;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&next);
            }
            // Nobody wants the old one back if the writer is through.
            let _ = self.empty.send(std::mem::replace(&mut self.buffer, next));
            self.used = 0;
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.buffer.len());
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
