//! The guest kernel's messages: kept on disk up to a limit, and the last of them in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// The most bytes that are written to the file.
const MAX_FILE: usize = 1 << 20;

/// The last bytes that are remembered.
const MAX_TAIL: usize = 8 << 10;

/// What a kernel says when it is done: power-off, halt, restart, and
/// power-off on a machine that cannot.
const GOODBYES: [&str; 4] = [
    "reboot: Power down\n",
    "reboot: System halted\n",
    "reboot: Restarting system\n",
    "reboot: Power off not available: System halted instead\n",
];

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

    /// Copy them to this file from now on, after what has been said so far.
    pub(super) fn keep_in(&mut self, file: File) {
        let said: Vec<u8> = self.tail.drain(..).collect();
        self.file = Some(file);
        self.keep(&said);
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
        // Serial ports end lines with one more character.
        self.tail
            .extend(bytes.iter().filter(|byte| **byte != b'\r'));
        let excess = self.tail.len().saturating_sub(MAX_TAIL);
        self.tail.drain(..excess);
    }

    /// Whether the guest kernel's last message was that it is done.
    pub(super) fn switched_off(&self) -> bool {
        GOODBYES.iter().any(|goodbye| {
            let start = self.tail.len().checked_sub(goodbye.len());
            start.is_some_and(|start| self.tail.iter().skip(start).eq(goodbye.as_bytes()))
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A console and the other end of its pipe.
    fn console(file: Option<File>) -> (Console, File) {
        let (reader, writer) = io::pipe().unwrap();
        let own = |end: std::os::fd::OwnedFd| File::from(end);
        (
            Console::new(own(reader.into()), file).unwrap(),
            own(writer.into()),
        )
    }

    #[test]
    fn what_is_kept_is_bounded() {
        use std::io::{Seek, SeekFrom};
        let mut file = tempfile::tempfile().unwrap();
        let (mut console, mut guest) = console(Some(file.try_clone().unwrap()));
        for i in 0..400 {
            guest.write_all(&[b'a' + (i % 26) as u8; 4096]).unwrap();
            assert!(console.pump());
        }
        guest.write_all(b"\x1b[31mlast\r\n words\xff\n").unwrap();
        drop(guest);
        console.drain();
        assert!(!console.pump());
        assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), MAX_FILE as u64);
        let tail = console.tail();
        assert!(tail.len() <= MAX_TAIL + 8);
        assert!(tail.ends_with("[31mlast\n words\u{fffd}\n"), "{tail}");
    }

    #[test]
    fn goodbyes_are_heard_at_the_end_only() {
        let (mut console, mut guest) = console(None);
        for (text, over) in [
            ("[    1.2] reboot: Power ", false),
            ("down\r\n", true),
            ("more\n", false),
            ("reboot: System halted\n", true),
            ("reboot: Restarting system\n", true),
        ] {
            guest.write_all(text.as_bytes()).unwrap();
            assert!(console.pump());
            assert_eq!(console.switched_off(), over, "{text}");
        }
    }
}
