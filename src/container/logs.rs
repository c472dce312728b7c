//! A container's log: what its first process wrote, with times.
//!
//! One record a chunk: stream (1 byte), time (8 bytes, little-endian nanoseconds since the
//! epoch), length (4 bytes, little-endian), the bytes as they came. Binary output stays
//! intact. Two files at most: when `log` passes [`ROTATE_AT`] it becomes `log.1`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Size in bytes at which a log file is set aside; the one set aside before is dropped.
pub const ROTATE_AT: u64 = 64 << 20;

const HEADER: usize = 13;
/// Longer records are not of this format.
const MAX_RECORD: usize = 1 << 20;

/// Which stream a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// One chunk of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it was written to.
    pub stream: Stream,
    /// When it reached the supervisor, nanoseconds since the epoch.
    pub time: i64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Appends records; held by the supervisor.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    size: u64,
    rotate_at: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Opens `path` for appending; a torn record of a killed supervisor is cut off.
    /// After `rotate_at` bytes what is there is set aside, in place of what was before.
    pub fn open(path: &Path, rotate_at: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        let mut reader = Reader::over(file.try_clone()?);
        while reader.next_record()?.is_some() {}
        file.set_len(reader.whole)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            size: reader.whole,
            // A file that must not hold a byte would never take one.
            rotate_at: rotate_at.max(1),
            buffer: Vec::new(),
        })
    }

    /// Appends one chunk, in parts where a file ends.
    pub fn append(&mut self, stream: Stream, time: i64, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.size >= self.rotate_at {
                self.rotate()?;
            }
            let room = usize::try_from(self.rotate_at - self.size).unwrap_or(usize::MAX);
            let (part, more) = rest.split_at(rest.len().min(room).min(MAX_RECORD));
            self.buffer.clear();
            self.buffer.push(stream as u8);
            self.buffer.extend(time.to_le_bytes());
            self.buffer.extend((part.len() as u32).to_le_bytes());
            self.buffer.extend(part);
            self.file.write_all(&self.buffer)?;
            self.size += self.buffer.len() as u64;
            rest = more;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, set_aside(&self.path))?;
        self.file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

/// Where the older part of the log at `path` is.
pub fn set_aside(path: &Path) -> PathBuf {
    path.with_extension("1")
}

/// Reads records; at the end of what is there it returns `None` and can be asked again.
#[derive(Debug)]
pub struct Reader {
    input: BufReader<File>,
    /// Bytes of whole records read.
    whole: u64,
    partial: Vec<u8>,
}

impl Reader {
    /// Opens the log file at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::over(File::open(path)?))
    }

    fn over(file: File) -> Self {
        Self {
            input: BufReader::with_capacity(128 << 10, file),
            whole: 0,
            partial: Vec::new(),
        }
    }

    /// Whether the file that is read is no longer the one at `path`.
    pub fn is_set_aside(&self, path: &Path) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let own = self.input.get_ref().metadata()?;
        match fs::metadata(path) {
            Ok(there) => Ok((own.dev(), own.ino()) != (there.dev(), there.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next whole record, if there is one yet.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        if !self.fill(HEADER)? {
            return Ok(None);
        }
        let length = u32::from_le_bytes([
            self.partial[9],
            self.partial[10],
            self.partial[11],
            self.partial[12],
        ]) as usize;
        let stream = match self.partial[0] {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return Ok(None),
        };
        if length > MAX_RECORD || !self.fill(HEADER + length)? {
            return Ok(None);
        }
        let mut time = [0; 8];
        time.copy_from_slice(&self.partial[1..9]);
        let bytes = self.partial.split_off(HEADER);
        self.partial.clear();
        self.whole += (HEADER + bytes.len()) as u64;
        Ok(Some(Record {
            stream,
            time: i64::from_le_bytes(time),
            bytes,
        }))
    }

    fn fill(&mut self, want: usize) -> io::Result<bool> {
        let missing = want.saturating_sub(self.partial.len());
        if missing > 0 {
            (&mut self.input)
                .take(missing as u64)
                .read_to_end(&mut self.partial)?;
        }
        Ok(self.partial.len() >= want)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_appended_is_read_and_torn_ends_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = Writer::open(&path, ROTATE_AT).unwrap();
        writer.append(Stream::Stdout, 5, b"hello").unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let first = Record {
            stream: Stream::Stdout,
            time: 5,
            bytes: b"hello".to_vec(),
        };
        assert_eq!(reader.next_record().unwrap(), Some(first));
        assert_eq!(reader.next_record().unwrap(), None);
        writer.append(Stream::Stderr, 6, b"!").unwrap();
        assert_eq!(
            reader.next_record().unwrap().unwrap().stream,
            Stream::Stderr
        );
        let whole = fs::metadata(&path).unwrap().len();
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(&[1, 2, 3])
            .unwrap();
        Writer::open(&path, ROTATE_AT)
            .unwrap()
            .append(Stream::Stdout, 7, b"after")
            .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), whole + 13 + 5);
        let mut reader = Reader::open(&path).unwrap();
        let mut count = 0;
        while reader.next_record().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 3);
    }

    #[test]
    fn a_chunk_longer_than_a_file_is_kept_in_files_that_are_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = Writer::open(&path, 1000).unwrap();
        let bytes: Vec<u8> = (0..10_500).map(|n| (n % 251) as u8).collect();
        writer.append(Stream::Stdout, 1, &bytes).unwrap();
        let mut kept = Vec::new();
        for file in [set_aside(&path), path] {
            assert!(fs::metadata(&file).unwrap().len() <= 1000 + HEADER as u64);
            let mut reader = Reader::open(&file).unwrap();
            while let Some(record) = reader.next_record().unwrap() {
                kept.extend(record.bytes);
            }
        }
        assert!(kept.len() > 1000 && bytes.ends_with(&kept));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            fs::write(&path, &bytes).unwrap();
            let mut reader = Reader::open(&path).unwrap();
            while let Some(record) = reader.next_record().unwrap() {
                prop_assert!(record.bytes.len() <= bytes.len());
            }
        }
    }
}
