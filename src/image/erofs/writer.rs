//! Puts an image together: see the module above for its shape.

use std::fs::File;
use std::io;

use super::blocks::{Blocks, byte_offset, nid};
use super::data::{FileData, Placed};
use super::directory::{Dirent, Layout, encode};
use super::format::{self, BLOCK, RawInode, Superblock};
use super::tree::{DirId, Directory, Entry, FileId, Stored, Tree};
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
    out: Blocks<'a>,
    tree: Tree,
    xattrs: SharedXattrs,
    /// The time of compact inodes: that of the first inode.
    epoch: Option<Timestamp>,
    chunked: bool,
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

    /// Writes all that is still missing, and returns the size of the image.
    pub fn finish(mut self, uuid: [u8; 16]) -> Result<u64, WriteError> {
        self.out.flush_records()?;
        self.patch_links()?;
        let epoch = self.epoch.unwrap_or(self.tree.metadata(Tree::ROOT).mtime);
        let plan = self.plan_directories(epoch)?;
        let mut first_block = Box::new([0; BLOCK]);
        for dir in &plan.dirs {
            self.write_directory(dir, &plan.nids, &mut first_block)?;
        }
        let area = self.xattrs.into_area();
        let xattr_block = self.out.take(area.len().div_ceil(BLOCK) as u64)?;
        self.out.write(xattr_block, &area)?;
        let named = self.tree.files.iter().filter(|file| file.links > 0).count();
        let superblock = Superblock {
            root_nid: format::ROOT_NID,
            inodes: (named + plan.dirs.len()) as u64,
            epoch,
            blocks: self.out.end(),
            meta_block: 0,
            xattr_block: if area.is_empty() { 0 } else { xattr_block },
            uuid,
            chunked: self.chunked,
        };
        superblock.encode_into(&mut first_block);
        self.out.truncate().map_err(WriteError::Io)?;
        self.out.write(0, &first_block[..])?;
        Ok(byte_offset(self.out.end()))
    }

    /// Files have one name when they are written; now it is known how many there are.
    fn patch_links(&self) -> Result<(), WriteError> {
        for file in self.tree.files.iter().filter(|file| file.links > 1) {
            let inode = file.nid * format::SLOT as u64;
            if file.compact {
                self.out
                    .write_at(inode + 6, &(file.links as u16).to_le_bytes())?;
            } else {
                self.out.write_at(inode + 44, &file.links.to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// Decides where each directory goes: inodes first, then what does not fit behind them.
    fn plan_directories(&mut self, epoch: Timestamp) -> Result<Plan, WriteError> {
        let mut plan = Plan {
            dirs: Vec::new(),
            nids: vec![0; self.tree.dirs.len()],
        };
        let first = self.out.end();
        // Bytes of the run of inode blocks; the root has its place in block 0.
        let mut used = 0;
        for id in self.tree.reachable_dirs() {
            let dir = &self.tree.dirs[id.0 as usize];
            let mut inode = directory_inode(dir, plan.dirs.len() + self.tree.files.len());
            inode.compact = inode.fits_compact(epoch);
            let (count, body) = self.xattrs.body(&dir.metadata.xattrs)?;
            inode.xattr_count = count;
            let head = inode.len() + body.len();
            let tail = inode.size as usize % BLOCK;
            let room = if id == Tree::ROOT {
                BLOCK - usize::from(format::ROOT_NID) * format::SLOT
            } else {
                BLOCK
            };
            let inline = tail > 0 && head + tail <= room;
            inode.layout = if inline {
                format::LAYOUT_INLINE
            } else {
                format::LAYOUT_PLAIN
            };
            let length = if inline { head + tail } else { head };
            let nid = if id == Tree::ROOT {
                format::ROOT_NID.into()
            } else {
                if used % BLOCK + length > BLOCK {
                    used = used.next_multiple_of(BLOCK);
                }
                let nid = nid(first, used);
                used = (used + length).next_multiple_of(format::SLOT);
                nid
            };
            plan.nids[id.0 as usize] = nid;
            plan.dirs.push(Planned {
                id,
                nid,
                inode,
                body,
            });
        }
        self.out.take(used.div_ceil(BLOCK) as u64)?;
        for dir in &mut plan.dirs {
            let blocks = if dir.inode.layout == format::LAYOUT_INLINE {
                dir.inode.size / BLOCK as u64
            } else {
                dir.inode.size.div_ceil(BLOCK as u64)
            };
            if blocks > 0 {
                dir.inode.place = self.out.take(blocks)?;
            }
        }
        Ok(plan)
    }

    fn write_directory(
        &self,
        planned: &Planned,
        nids: &[u64],
        first_block: &mut [u8; BLOCK],
    ) -> Result<(), WriteError> {
        let dir = &self.tree.dirs[planned.id.0 as usize];
        let nid_of = |id: DirId| nids[id.0 as usize];
        let data = encode(names(dir).map(|(name, entry)| match entry {
            Name::This => Dirent {
                name,
                nid: planned.nid,
                file_type: FileType::Directory,
            },
            Name::Parent => Dirent {
                name,
                nid: nid_of(dir.parent),
                file_type: FileType::Directory,
            },
            Name::Child(Entry::Dir(id)) => Dirent {
                name,
                nid: nid_of(id),
                file_type: FileType::Directory,
            },
            Name::Child(Entry::File(id)) => {
                let file = &self.tree.files[id.0 as usize];
                Dirent {
                    name,
                    nid: file.nid,
                    file_type: file.file_type,
                }
            }
        }));
        let mut record = planned.inode.encode();
        record.extend_from_slice(&planned.body);
        let blocks = if planned.inode.layout == format::LAYOUT_INLINE {
            let (blocks, tail) = data.split_at(data.len() - data.len() % BLOCK);
            record.extend_from_slice(tail);
            blocks
        } else {
            &data
        };
        if !blocks.is_empty() {
            self.out.write(planned.inode.place, blocks)?;
        }
        let offset = planned.nid * format::SLOT as u64;
        if planned.id == Tree::ROOT {
            let offset = offset as usize;
            first_block[offset..offset + record.len()].copy_from_slice(&record);
            return Ok(());
        }
        self.out.write_at(offset, &record)
    }
}

/// Where all directories go.
struct Plan {
    dirs: Vec<Planned>,
    /// The inode number of every reachable directory, by its place in the tree.
    nids: Vec<u64>,
}

struct Planned {
    id: DirId,
    nid: u64,
    inode: RawInode,
    body: Vec<u8>,
}

fn directory_inode(dir: &Directory, others: usize) -> RawInode {
    let mut layout = Layout::default();
    let mut links = 2;
    for (name, entry) in names(dir) {
        layout.add(name);
        links += u32::from(matches!(entry, Name::Child(Entry::Dir(_))));
    }
    RawInode {
        compact: false,
        layout: format::LAYOUT_PLAIN,
        xattr_count: 0,
        mode: FileType::Directory.mode_bits() | dir.metadata.mode & 0o7777,
        size: layout.size(),
        place: 0,
        ino: others as u32 + 1,
        uid: dir.metadata.uid,
        gid: dir.metadata.gid,
        mtime: dir.metadata.mtime,
        links,
    }
}

enum Name {
    This,
    Parent,
    Child(Entry),
}

/// All names in a directory in byte order, with `.` and `..`.
fn names(dir: &Directory) -> impl Iterator<Item = (&[u8], Name)> {
    let children = dir.children.iter();
    let mut children = children
        .map(|(name, entry)| (&name[..], Name::Child(*entry)))
        .peekable();
    let mut dots = [(&b"."[..], Name::This), (&b".."[..], Name::Parent)]
        .into_iter()
        .peekable();
    std::iter::from_fn(move || match (dots.peek(), children.peek()) {
        (Some((dot, _)), Some((name, _))) if name < dot => children.next(),
        (Some(_), _) => dots.next(),
        (None, _) => children.next(),
    })
}
