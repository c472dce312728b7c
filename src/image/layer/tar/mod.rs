//! Reads tar archives as a stream: all dialects in which layers are found.
//!
//! Understood are the old format, POSIX ustar, GNU (long names, sparse files, binary numbers),
//! star, and PAX with all three of GNU's sparse formats and `SCHILY.xattr`. Where archives leave
//! room for doubt, this reader decides as Go's `archive/tar` does, since docker is built on it:
//! global PAX headers are ignored, links and directories have no data whatever their size says,
//! an archive may end without its two zero blocks, and after them nothing is looked at.

mod header;
mod pax;
mod sparse;

use std::io::{self, BufRead};

use header::{BLOCK, Header};
use pax::Extensions;
pub use sparse::Map;

use crate::image::erofs::{Timestamp, Xattrs};

/// The longest extended header, as in Go's `archive/tar`.
const MAX_EXTENSION: u64 = 1 << 20;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream cannot be read.
    #[error(transparent)]
    Io(io::Error),
    /// The stream ends within a member.
    #[error("it ends in the middle of an entry")]
    Truncated,
    /// Not a header where one should be.
    #[error("byte {0} should begin a tar header and does not")]
    Header(u64),
    /// A number in a header is none.
    #[error("the header field {0} is no usable number")]
    Field(&'static str),
    /// An extended header is malformed.
    #[error("its PAX extended header is malformed")]
    Pax,
    /// An extended header is too long.
    #[error("its extended header has {0} bytes, at most 1048576 are allowed")]
    ExtensionSize(u64),
    /// The map of a sparse file is malformed.
    #[error("its map of a sparse file is malformed")]
    Sparse,
}

/// What kind of member this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file with data.
    Regular,
    /// Another name for a member before it.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A type letter that stands for nothing in a layer.
    Unknown(u8),
}

/// A member of the archive.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it is.
    pub kind: Kind,
    /// Its name as it stands in the archive.
    pub path: Vec<u8>,
    /// What a link points to.
    pub link: Vec<u8>,
    /// Permissions.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: Timestamp,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Bytes of the file, with holes.
    pub size: u64,
    /// Which parts of the file are in the archive; all of it if there is no map.
    pub map: Option<Map>,
}

/// Reads one archive.
#[derive(Debug)]
pub struct TarReader<R> {
    input: R,
    /// Bytes taken from the input.
    offset: u64,
    /// Bytes of the current member's data that were not read yet.
    data: u64,
    /// Bytes after the data, to the next block.
    padding: u64,
    headers: u64,
}

impl<R: BufRead> TarReader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            offset: 0,
            data: 0,
            padding: 0,
            headers: 0,
        }
    }

    /// Headers of all kinds read so far.
    pub fn headers(&self) -> u64 {
        self.headers
    }

    /// The input, after whatever was read.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// The next member; data of the one before that was not read is passed over.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        let mut extensions = Extensions::default();
        let (mut long_name, mut long_link) = (None, None);
        let mut begun = false;
        loop {
            self.skip_data()?;
            let Some(header) = self.header()? else {
                return if begun {
                    Err(TarError::Truncated)
                } else {
                    Ok(None)
                };
            };
            begun = true;
            match header.type_flag() {
                b'x' => {
                    extensions = Extensions::default();
                    extensions.parse(&self.extension(&header)?)?;
                }
                b'g' => {
                    // Checked, so that nonsense is noticed; then ignored, as docker does.
                    Extensions::default().parse(&self.extension(&header)?)?;
                    begun = false;
                }
                b'L' => long_name = Some(until_nul(self.extension(&header)?)),
                b'K' => long_link = Some(until_nul(self.extension(&header)?)),
                _ => {
                    return self
                        .member(&header, extensions, long_name, long_link)
                        .map(Some);
                }
            }
        }
    }

    fn member(
        &mut self,
        header: &Header,
        pax: Extensions,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Member, TarError> {
        let path = pax.sparse.name.clone().or(pax.path).or(long_name);
        let path = path.unwrap_or_else(|| header.name());
        let link = pax
            .link_path
            .or(long_link)
            .unwrap_or_else(|| header.link_name().to_vec());
        let kind = match header.type_flag() {
            // Before POSIX, a directory was known by its name.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::Regular,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Unknown(other),
        };
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => header.device()?,
            _ => (0, 0),
        };
        let mut member = Member {
            kind,
            path,
            link,
            mode: header.mode()?,
            uid: pax.uid.map_or_else(|| header.uid(), Ok)?,
            gid: pax.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                None => Timestamp {
                    secs: header.mtime()?,
                    nanos: 0,
                },
            },
            xattrs: pax.xattrs,
            device,
            size: 0,
            map: None,
        };
        if matches!(kind, Kind::Regular | Kind::Unknown(_)) {
            member.size = pax.size.map_or_else(|| header.size(), Ok)?;
            self.expect_data(member.size)?;
        }
        if kind == Kind::Regular {
            if header.type_flag() == b'S' {
                self.read_gnu_map(header, &mut member)?;
            } else if pax.sparse.present {
                let real_size = pax.sparse.real_size.ok_or(TarError::Sparse)?;
                member.size = real_size;
                member.map = Some(if pax.sparse.map_in_data {
                    self.read_map(real_size)?
                } else {
                    pax.sparse.map(real_size)?
                });
            }
            if member
                .map
                .as_ref()
                .is_some_and(|map| map.data() != self.data)
            {
                return Err(TarError::Sparse);
            }
        }
        Ok(member)
    }

    /// The map in GNU's old format: in the header and in blocks that follow it.
    fn read_gnu_map(&mut self, header: &Header, member: &mut Member) -> Result<(), TarError> {
        let (piece, mut more, real_size) = header.gnu_sparse()?;
        let mut map = Map::default();
        map.add_gnu(piece, real_size)?;
        while more {
            let mut block = [0; BLOCK];
            self.read_exact(&mut block)?;
            map.add_gnu(&block[..504], real_size)?;
            more = block[504] != 0;
        }
        member.size = real_size;
        member.map = Some(map);
        Ok(())
    }

    /// The map in GNU's PAX format 1.0: decimal numbers at the beginning of the data.
    fn read_map(&mut self, real_size: u64) -> Result<Map, TarError> {
        let mut block = [0; BLOCK];
        let mut at = BLOCK;
        let mut number = || {
            let mut digits = Vec::new();
            loop {
                if at == BLOCK {
                    self.data = self
                        .data
                        .checked_sub(BLOCK as u64)
                        .ok_or(TarError::Sparse)?;
                    self.read_exact(&mut block)?;
                    at = 0;
                }
                at += 1;
                match block[at - 1] {
                    b'\n' => return pax::decimal(&digits).ok_or(TarError::Sparse),
                    digit if digits.len() < 20 => digits.push(digit),
                    _ => return Err(TarError::Sparse),
                }
            }
        };
        let mut map = Map::default();
        for _ in 0..number()? {
            map.add(number()?, number()?, real_size)?;
        }
        Ok(map)
    }

    /// Some of the current member's data that is left: what is at hand, at most `limit` bytes.
    /// `use_data` gets it; nothing is left when it gets nothing.
    pub fn data<E: From<TarError>>(
        &mut self,
        limit: u64,
        use_data: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let wanted = self.data.min(limit);
        if wanted == 0 {
            return Ok(0);
        }
        let buffer = fill(&mut self.input)?;
        if buffer.is_empty() {
            return Err(TarError::Truncated.into());
        }
        let count = wanted.min(buffer.len() as u64);
        use_data(&buffer[..count as usize])?;
        self.input.consume(count as usize);
        self.data -= count;
        self.offset += count;
        Ok(count)
    }

    fn expect_data(&mut self, size: u64) -> Result<(), TarError> {
        if size > i64::MAX as u64 {
            return Err(TarError::Field("size"));
        }
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// Passes over what is left of the current member.
    fn skip_data(&mut self) -> Result<(), TarError> {
        self.data += std::mem::take(&mut self.padding);
        while self.data(u64::MAX, |_| Ok::<_, TarError>(()))? > 0 {}
        Ok(())
    }

    /// The whole data of the current header, an extended one.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > MAX_EXTENSION {
            return Err(TarError::ExtensionSize(size));
        }
        self.expect_data(size)?;
        let mut content = Vec::with_capacity(size as usize);
        while self.data(u64::MAX, |data| {
            content.extend_from_slice(data);
            Ok::<_, TarError>(())
        })? > 0
        {}
        Ok(content)
    }

    /// The next header, unless the archive ends here.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let start = self.offset;
        let mut block = [0; BLOCK];
        if fill(&mut self.input)?.is_empty() {
            return Ok(None);
        }
        self.read_exact(&mut block)?;
        if block == [0; BLOCK] {
            if fill(&mut self.input)?.is_empty() {
                return Ok(None);
            }
            self.read_exact(&mut block)?;
            return if block == [0; BLOCK] {
                Ok(None)
            } else {
                Err(TarError::Header(start + 512))
            };
        }
        self.headers += 1;
        Header::new(block).map(Some).ok_or(TarError::Header(start))
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        self.input
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => TarError::Truncated,
                _ => TarError::Io(error),
            })?;
        self.offset += buffer.len() as u64;
        Ok(())
    }
}

fn fill(input: &mut impl BufRead) -> Result<&[u8], TarError> {
    loop {
        match input.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(TarError::Io(error)),
        }
    }
    // What is there already is given without reading.
    input.fill_buf().map_err(TarError::Io)
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}
