//! What is on a disk: a raw file, or read-only files put together.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::AsFd;

use super::gpt::{self, SECTOR};
use crate::devices::Buffers;

/// A disk's contents.
#[derive(Debug)]
pub(crate) enum Disk {
    /// Files as the partitions of a read-only disk.
    Composed(Composed),
    /// A file that the guest writes.
    Writable(Writable),
    /// Nothing yet: zeros.
    Awaited {
        /// The size in bytes.
        size: u64,
        /// Whether a file that the guest writes will come.
        writable: bool,
    },
}

impl Disk {
    /// Put files together, on a disk of `size` bytes or of what they need.
    pub(crate) fn composed(files: Vec<File>, size: Option<u64>) -> io::Result<Self> {
        let sizes = files.iter().map(size_of).collect::<io::Result<Vec<_>>>()?;
        let layout = gpt::layout(&sizes, size).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the files are too large for one disk",
            )
        })?;
        let mut segments = vec![Segment {
            start: 0,
            data: Data::Bytes(layout.head),
        }];
        for ((file, size), start) in files.into_iter().zip(sizes).zip(layout.starts) {
            segments.push(Segment {
                start,
                data: Data::File(file, size),
            });
        }
        segments.push(Segment {
            start: layout.tail_start,
            data: Data::Bytes(layout.tail),
        });
        Ok(Self::Composed(Composed {
            segments,
            size: layout.size,
        }))
    }

    /// Use a raw file whose size is a multiple of the sector size.
    pub(crate) fn writable(file: File, durable: bool) -> io::Result<Self> {
        let size = size_of(&file)?;
        Ok(Self::Writable(Writable {
            file,
            size: size - size % SECTOR,
            durable,
        }))
    }

    /// The size in bytes, a multiple of the sector size.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Composed(disk) => disk.size,
            Self::Writable(disk) => disk.size,
            Self::Awaited { size, .. } => *size,
        }
    }

    /// Whether the guest may write it.
    pub(crate) fn is_writable(&self) -> bool {
        match self {
            Self::Composed(_) => false,
            Self::Writable(_) => true,
            Self::Awaited { writable, .. } => *writable,
        }
    }

    /// Fill the buffers from `offset`.
    pub(crate) fn read(&self, offset: u64, buffers: &mut Buffers<'_>) -> io::Result<()> {
        match self {
            Self::Composed(disk) => disk.read(offset, buffers),
            Self::Writable(disk) => {
                let wanted = buffers.len();
                let got = buffers.fill_from_file(disk.file.as_fd(), offset, wanted)?;
                if got == wanted {
                    Ok(())
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            }
            Self::Awaited { .. } => {
                buffers.write_zeros(buffers.len());
                Ok(())
            }
        }
    }
}

/// A disk of several read-only files.
#[derive(Debug)]
pub(crate) struct Composed {
    /// In the order of their starts; the first starts at 0.
    segments: Vec<Segment>,
    size: u64,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Bytes(Vec<u8>),
    File(File, u64),
}

impl Composed {
    fn read(&self, mut offset: u64, buffers: &mut Buffers<'_>) -> io::Result<()> {
        while buffers.len() > 0 {
            let next = self
                .segments
                .partition_point(|segment| segment.start <= offset);
            let segment = next
                .checked_sub(1)
                .and_then(|index| self.segments.get(index));
            let Some(segment) = segment else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let end = self
                .segments
                .get(next)
                .map_or(self.size, |segment| segment.start);
            let inside = offset - segment.start;
            let span = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
            let span = span.min(buffers.len());
            if span == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let got = match &segment.data {
                Data::Bytes(bytes) => {
                    let from = usize::try_from(inside).unwrap_or(usize::MAX);
                    let rest = bytes.get(from..).unwrap_or_default();
                    buffers.write(rest.get(..span.min(rest.len())).unwrap_or_default())
                }
                Data::File(file, size) => {
                    let rest = usize::try_from(size.saturating_sub(inside)).unwrap_or(usize::MAX);
                    buffers.fill_from_file(file.as_fd(), inside, span.min(rest))?
                }
            };
            // What lies between a file's end and the next partition.
            buffers.write_zeros(span - got);
            offset += span as u64;
        }
        Ok(())
    }
}

/// A raw file that the guest writes.
#[derive(Debug)]
pub(crate) struct Writable {
    file: File,
    size: u64,
    durable: bool,
}

impl Writable {
    /// Write everything that the buffers hold at `offset`.
    pub(crate) fn write(&self, offset: u64, buffers: &mut Buffers<'_>) -> io::Result<()> {
        buffers.drain_to_file(self.file.as_fd(), offset)
    }

    /// Bring everything to the host's disk, if that is wanted.
    pub(crate) fn flush(&self) -> io::Result<()> {
        if self.durable {
            self.file.sync_data()
        } else {
            Ok(())
        }
    }

    /// Make a range read as zeros, giving its space back where `unmap` allows it.
    pub(crate) fn zero(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        let mode = if unmap {
            libc::FALLOC_FL_PUNCH_HOLE
        } else {
            libc::FALLOC_FL_ZERO_RANGE
        };
        let to_off = |value| {
            libc::off_t::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
        };
        let (offset, len) = (to_off(offset)?, to_off(len)?);
        let mode = nix::fcntl::FallocateFlags::from_bits_truncate(mode | libc::FALLOC_FL_KEEP_SIZE);
        Ok(nix::fcntl::fallocate(&self.file, mode, offset, len)?)
    }
}

fn size_of(file: &File) -> io::Result<u64> {
    // Seeking tells the size of files and of block devices alike.
    (&*file).seek(io::SeekFrom::End(0))
}
