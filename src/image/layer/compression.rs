//! Recognizes how a layer is compressed, and undoes it.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::LayerError;
use crate::image::digest::Digest;

/// The largest window that a zstd frame may ask memory for: 128 MiB, zstd's own default.
const ZSTD_WINDOW: u32 = 27;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

impl Compression {
    /// Tells from the first bytes. What is no known compression is taken for a tar archive.
    pub fn detect(start: &[u8]) -> Result<Self, LayerError> {
        const UNSUPPORTED: [(&[u8], &str); 5] = [
            (b"\xfd7zXZ\0", "xz"),
            (b"BZh", "bzip2"),
            (b"\x04\x22\x4d\x18", "lz4"),
            (b"\x5d\0\0", "lzma"),
            (b"\x1f\x9d", "compress"),
        ];
        if start.starts_with(b"\x1f\x8b\x08") {
            return Ok(Self::Gzip);
        }
        // A frame, or one that is to be skipped (its first byte has any low half).
        let skippable =
            start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == *b"\x2a\x4d\x18";
        if start.starts_with(b"\x28\xb5\x2f\xfd") || skippable {
            return Ok(Self::Zstd);
        }
        match UNSUPPORTED
            .iter()
            .find(|(magic, _)| start.starts_with(magic))
        {
            Some((_, name)) => Err(LayerError::Compression(name)),
            None => Ok(Self::None),
        }
    }

    /// Its usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Undoes it. The result ends where `input` ends; anything else after the compressed data
    /// is an error.
    pub fn decoder<R: BufRead>(self, input: R) -> io::Result<Decoder<R>> {
        Ok(match self {
            Self::None => Decoder::None(input),
            Self::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Decoder::Zstd(Box::new(decoder))
            }
        })
    }
}

/// Decompressed input.
pub enum Decoder<R: BufRead> {
    /// As it comes.
    None(R),
    /// From gzip.
    Gzip(Box<MultiGzDecoder<R>>),
    /// From zstd.
    Zstd(Box<zstd::Decoder<'static, R>>),
}

impl<R: BufRead> Decoder<R> {
    /// The input.
    pub fn get_ref(&self) -> &R {
        match self {
            Self::None(input) => input,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        }
    }

    /// The input, with whatever was not read of it.
    pub fn into_inner(self) -> R {
        match self {
            Self::None(input) => input,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(input) => input.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Hashes and counts what is read through it.
pub struct HashReader<R> {
    inner: R,
    hasher: Sha256,
    count: u64,
    failed: bool,
}

impl<R: Read> HashReader<R> {
    /// Hashes what comes from `inner` from here on.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            count: 0,
            failed: false,
        }
    }

    /// Bytes read so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether reading failed, so that it is not the content that is wrong.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// The digest and the number of bytes.
    pub fn finish(self) -> (Digest, u64) {
        (Digest::from_hasher(self.hasher), self.count)
    }
}

impl<R: Read> Read for HashReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        match &result {
            Ok(count) => {
                self.hasher.update(&buffer[..*count]);
                self.count += *count as u64;
            }
            Err(error) => self.failed |= error.kind() != io::ErrorKind::Interrupted,
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_numbers() {
        let detect = |bytes: &[u8]| Compression::detect(bytes).map_err(|error| error.to_string());
        assert_eq!(detect(b"\x1f\x8b\x08\0"), Ok(Compression::Gzip));
        assert_eq!(detect(b"\x28\xb5\x2f\xfd"), Ok(Compression::Zstd));
        assert_eq!(detect(b"\x5e\x2a\x4d\x18"), Ok(Compression::Zstd));
        assert_eq!(detect(b""), Ok(Compression::None));
        assert_eq!(detect(b"etc/passwd\0"), Ok(Compression::None));
        assert!(detect(b"\xfd7zXZ\0\0").unwrap_err().contains("xz"));
        assert!(detect(b"BZh91AY").unwrap_err().contains("bzip2"));
    }
}
