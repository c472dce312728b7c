//! Ends an image: link counts, directories, shared attributes and the superblock.

use super::blocks::{byte_offset, nid};
use super::directory::{Dirent, Layout, encode};
use super::format::{self, BLOCK, RawInode, Superblock};
use super::tree::{DirId, Directory, Entry, Tree};
use super::writer::{WriteError, Writer};
use super::{FileType, Timestamp};

impl Writer<'_> {
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
