//! The numbers in a member's header, as Go's archives have them: what is left out is zero.

use std::io;

use tar::Header;

/// What a header says of a member in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Permissions.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The owning group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
}

impl Numbers {
    /// Reads them.
    pub fn of(header: &Header) -> io::Result<Self> {
        // All formats have these at the same places.
        let fields = header.as_old();
        let filled = |field: &[u8]| !field.iter().all(|byte| matches!(byte, 0 | b' '));
        let number = |field: &[u8], read: &dyn Fn(&Header) -> io::Result<u64>| match filled(field) {
            true => read(header),
            false => Ok(0),
        };
        let mode = match filled(&fields.mode) {
            true => header.mode()? & 0o7777,
            false => 0,
        };
        Ok(Self {
            mode,
            uid: number(&fields.uid, &Header::uid)?,
            gid: number(&fields.gid, &Header::gid)?,
            mtime: number(&fields.mtime, &Header::mtime)?,
        })
    }
}
