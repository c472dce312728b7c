//! Extended attributes of an inode.

use super::super::Xattrs;
use super::super::blocks::byte_offset;
use super::super::format::{XATTR_HEADER, u16_at, u32_at, xattr_len};
use super::super::xattr::full_name;
use super::{Inode, ReadError, Reader};

const BAD: ReadError = ReadError::Damaged("an inode's extended attributes make no sense");

impl Reader {
    /// All extended attributes of a file.
    pub fn xattrs(&self, inode: &Inode) -> Result<Xattrs, ReadError> {
        let mut found = Xattrs::new();
        let length = xattr_len(inode.raw.xattr_count);
        if length == 0 {
            return Ok(found);
        }
        let mut body = vec![0; length];
        let begin = self
            .body_end(inode)?
            .checked_sub(length as u64)
            .ok_or(BAD)?;
        self.read_exact(&mut body, begin)?;
        let shared = usize::from(body[4]);
        let mut rest = body.get(XATTR_HEADER + 4 * shared..).ok_or(BAD)?;
        for index in 0..shared {
            let place = u32_at(&body, XATTR_HEADER + 4 * index).ok_or(BAD)?;
            let at = byte_offset(self.superblock.xattr_block)
                .checked_add(u64::from(place) * 4)
                .ok_or(BAD)?;
            let mut head = [0; 4];
            self.read_exact(&mut head, at)?;
            let mut entry = vec![0; entry_len(&head).ok_or(BAD)?];
            self.read_exact(&mut entry, at)?;
            add(&mut found, &entry)?;
        }
        // What is not shared follows, each padded to 4 bytes.
        while !rest.is_empty() {
            let length = entry_len(rest).ok_or(BAD)?;
            add(&mut found, rest.get(..length).ok_or(BAD)?)?;
            rest = rest.get(length.next_multiple_of(4)..).ok_or(BAD)?;
        }
        Ok(found)
    }
}

/// Bytes of the entry that begins here, without padding.
fn entry_len(bytes: &[u8]) -> Option<usize> {
    Some(4 + usize::from(*bytes.first()?) + usize::from(u16_at(bytes, 2)?))
}

fn add(found: &mut Xattrs, entry: &[u8]) -> Result<(), ReadError> {
    let (name, value) = entry[4..].split_at(usize::from(entry[0]));
    let name = full_name(entry[1], name).ok_or(ReadError::Unsupported("unknown xattr names"))?;
    found.insert(name, value.to_vec());
    Ok(())
}
