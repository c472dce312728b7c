//! Opening archives that may be compressed.

use std::fs::File;
use std::io::{self, Chain, Cursor, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::image::error::ImageError;

/// A stream of bytes, decompressed where it was compressed.
pub enum Plain<R: Read> {
    /// As it came.
    Same(Start<R>),
    /// gzip.
    Gzip(Box<flate2::read::MultiGzDecoder<Start<R>>>),
    /// Zstandard.
    Zstd(Box<zstd::Decoder<'static, io::BufReader<Start<R>>>>),
}

/// A stream whose first bytes were looked at.
pub type Start<R> = Chain<Cursor<Vec<u8>>, R>;

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Same(inner) => inner.read(buffer),
            Self::Gzip(inner) => inner.read(buffer),
            Self::Zstd(inner) => inner.read(buffer),
        }
    }
}

/// Compressions that are left to their own programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `xz`
    Xz,
    /// `bzip2`
    Bzip2,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }

    /// Starts the program on a file, from where that is at.
    pub fn start(self, input: File) -> Result<Running, ImageError> {
        let name = self.name();
        let mut child = Command::new(name)
            .args(["-d", "-c", "-q"])
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| {
                ImageError::io(format!("run {name}, which the archive needs"), source)
            })?;
        let output = child.stdout.take();
        Ok(Running {
            name,
            child,
            output,
        })
    }
}

/// A decompressing program; its failure is a read error at the end of its output.
#[derive(Debug)]
pub struct Running {
    name: &'static str,
    child: Child,
    output: Option<ChildStdout>,
}

impl Read for Running {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(output) = &mut self.output else {
            return Ok(0);
        };
        let count = output.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.output = None;
            if !self.child.wait()?.success() {
                return Err(io::Error::other(format!(
                    "{} finds the data damaged",
                    self.name
                )));
            }
        }
        Ok(count)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.output.take().is_some() {
            // It may have ended by itself already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The first bytes of a stream, and the stream from its beginning.
pub fn peek<R: Read>(mut input: R) -> io::Result<(Vec<u8>, Start<R>)> {
    let mut start = Vec::new();
    input.by_ref().take(6).read_to_end(&mut start)?;
    Ok((start.clone(), Cursor::new(start).chain(input)))
}

/// Which program these first bytes need, if any.
pub fn program(start: &[u8]) -> Option<Program> {
    match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some(Program::Xz),
        [b'B', b'Z', b'h', ..] => Some(Program::Bzip2),
        _ => None,
    }
}

/// Whether these first bytes are compressed in a way that [`plain`] undoes.
pub fn is_compressed(start: &[u8]) -> bool {
    matches!(start, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..])
}

/// The stream without gzip's or Zstandard's compression.
pub fn plain<R: Read>(start: &[u8], input: Start<R>) -> io::Result<Plain<R>> {
    Ok(match start {
        [0x1f, 0x8b, ..] => Plain::Gzip(Box::new(flate2::read::MultiGzDecoder::new(input))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Plain::Zstd(Box::new(zstd::Decoder::new(input)?)),
        _ => Plain::Same(input),
    })
}
