//! Puts an image together: see the module above for its shape.

use std::fs::File;
use std::io;

use super::blocks::{Blocks, byte_offset};
use super::data::{FileData, Placed};
use super::format::{self, BLOCK, RawInode};
use super::tree::{FileId, Stored, Tree};
use super::xattr::SharedXattrs;
use super::{FileType, MAX_SYMLINK, Metadata, Timestamp};

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The image file cannot be written.
    #[error("cannot write the file system image: {0}")]
    Io(#[source] io::Error),
    /// Block numbers do not reach further.
    #[error("the file system image would be larger than 16 TiB")]
    ImageTooLarge,
    /// More or fewer bytes than announced.
    #[error("a file's content is not as long as was said")]
    FileSize,
    /// An attribute outside of the name spaces that EROFS knows.
    #[error("extended attribute {0} cannot be stored: its name space is unknown")]
    XattrName(String),
    /// An attribute's value is too long.
    #[error("extended attribute {0} has {1} bytes, at most 65535 are possible")]
    XattrValue(String, usize),
    /// Too many attributes.
    #[error("a file has {0} extended attributes, at most 255 are possible")]
    TooManyXattrs(usize),
    /// A device number that Linux does not have.
    #[error("device number {0}:{1} does not exist: Linux has majors to 4095 and minors to 1048575")]
    Device(u32, u32),
    /// A symbolic link to nothing, or a too long one.
    #[error("a symbolic link's target must have 1 to 4095 bytes, not {0}")]
    Symlink(usize),
}

/// Writes one image into one file.
#[derive(Debug)]
pub struct Writer<'a> {
    pub(super) out: Blocks<'a>,
    pub(super) tree: Tree,
    pub(super) xattrs: SharedXattrs,
    /// The time of compact inodes: that of the first inode.
    pub(super) epoch: Option<Timestamp>,
    pub(super) chunked: bool,
}

impl<'a> Writer<'a> {
    /// Begins an image in `file`, whose old content goes.
    pub fn new(file: &'a File) -> Result<Self, WriteError> {
        file.set_len(0).map_err(WriteError::Io)?;
        Ok(Self {
            out: Blocks::new(file),
            tree: Tree::new(),
            xattrs: SharedXattrs::default(),
            epoch: None,
            chunked: false,
        })
    }

    /// The names written so far.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The names written so far, to add to.
    pub fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// Bytes of the image so far.
    pub fn image_size(&self) -> u64 {
        byte_offset(self.out.end())
    }

    /// Memory in use, roughly.
    pub fn memory(&self) -> usize {
        self.tree.memory() + self.xattrs.memory()
    }

    /// Begins a regular file of `size` bytes. If it is known that only some of them lie outside
    /// of holes, `sparse_data` says how many; otherwise it is 0.
    pub fn begin_file(&self, size: u64, sparse_data: u64) -> FileData {
        FileData::new(size, sparse_data)
    }

    /// Adds to a file's content.
    pub fn append(&mut self, file: &mut FileData, data: &[u8]) -> Result<(), WriteError> {
        file.append(&mut self.out, data)
    }

    /// Adds `count` zeros to a file's content.
    pub fn skip(&mut self, file: &mut FileData, count: u64) -> Result<(), WriteError> {
        file.skip(&mut self.out, count)
    }

    /// Ends a regular file, all of whose content has come.
    pub fn end_file(&mut self, file: FileData, metadata: &Metadata) -> Result<FileId, WriteError> {
        let (mut inode, body) = self.inode(FileType::Regular, file.size(), metadata)?;
        let inline_room = BLOCK - inode.len() - body.len();
        let (inline, unit) = match file.finish(&mut self.out, inline_room)? {
            Placed::Run { first, tail } => {
                inode.layout = if tail.is_empty() {
                    format::LAYOUT_PLAIN
                } else {
                    format::LAYOUT_INLINE
                };
                inode.place = first;
                (tail, 1)
            }
            Placed::Chunks { bits, blocks } => {
                self.chunked = true;
                inode.layout = format::LAYOUT_CHUNKED;
                inode.place = bits.into();
                (blocks.into_iter().flat_map(u32::to_le_bytes).collect(), 4)
            }
        };
        self.store(&inode, &body, &inline, unit)
    }

    /// Makes a symbolic link.
    pub fn symlink(&mut self, target: &[u8], metadata: &Metadata) -> Result<FileId, WriteError> {
        if target.is_empty() || target.len() > MAX_SYMLINK {
            return Err(WriteError::Symlink(target.len()));
        }
        let (mut inode, body) = self.inode(FileType::Symlink, target.len() as u64, metadata)?;
        if inode.len() + body.len() + target.len() <= BLOCK {
            inode.layout = format::LAYOUT_INLINE;
            return self.store(&inode, &body, target, 1);
        }
        inode.place = self.out.take(1)?;
        self.out.write(inode.place, target)?;
        self.store(&inode, &body, &[], 1)
    }

    /// Makes a device with this major and minor number.
    pub fn device(
        &mut self,
        file_type: FileType,
        (major, minor): (u32, u32),
        metadata: &Metadata,
    ) -> Result<FileId, WriteError> {
        let (mut inode, body) = self.inode(file_type, 0, metadata)?;
        inode.place =
            format::encode_device(major, minor).ok_or(WriteError::Device(major, minor))?;
        self.store(&inode, &body, &[], 1)
    }

    /// Makes a named pipe or a socket.
    pub fn endpoint(
        &mut self,
        file_type: FileType,
        metadata: &Metadata,
    ) -> Result<FileId, WriteError> {
        let (inode, body) = self.inode(file_type, 0, metadata)?;
        self.store(&inode, &body, &[], 1)
    }

    /// An inode with one name and the plain layout, and the attributes that follow it.
    fn inode(
        &mut self,
        file_type: FileType,
        size: u64,
        metadata: &Metadata,
    ) -> Result<(RawInode, Vec<u8>), WriteError> {
        let epoch = *self.epoch.get_or_insert(metadata.mtime);
        let (xattr_count, body) = self.xattrs.body(&metadata.xattrs)?;
        let mut inode = RawInode {
            compact: false,
            layout: format::LAYOUT_PLAIN,
            xattr_count,
            mode: file_type.mode_bits() | metadata.mode & 0o7777,
            size,
            place: 0,
            ino: self.tree.files.len() as u32 + 1,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime,
            links: 1,
        };
        inode.compact = inode.fits_compact(epoch);
        Ok((inode, body))
    }

    /// Writes an inode that is no directory; what is inline begins at a multiple of `unit`.
    fn store(
        &mut self,
        inode: &RawInode,
        body: &[u8],
        inline: &[u8],
        unit: usize,
    ) -> Result<FileId, WriteError> {
        let mut record = inode.encode();
        record.extend_from_slice(body);
        record.resize(record.len().next_multiple_of(unit), 0);
        record.extend_from_slice(inline);
        let nid = self.out.place(&record)?;
        let file_type = FileType::from_mode(inode.mode).unwrap_or(FileType::Regular);
        self.tree.files.push(Stored {
            nid,
            links: 0,
            file_type,
            compact: inode.compact,
        });
        Ok(FileId(self.tree.files.len() as u32 - 1))
    }
}
