//! Extended attributes: each distinct one is stored once, in an area that inodes point into.

use std::collections::HashMap;

use super::Xattrs;
use super::format::XATTR_HEADER;
use super::writer::WriteError;

/// The most attributes one inode can have (their number is stored in one byte).
pub const MAX_XATTRS: usize = 255;
/// The longest value (its length is stored in two bytes).
pub const MAX_VALUE: usize = 65_535;

/// The name spaces that EROFS can store: their numbers and the part of the name they replace.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// Number of the name space, and the rest of the name.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|&(index, prefix)| {
        let rest = name.strip_prefix(prefix)?;
        (prefix.ends_with(b".") != rest.is_empty()).then_some((index, rest))
    })
}

/// Full name for a stored name space number and rest of the name.
pub fn full_name(index: u8, rest: &[u8]) -> Option<Vec<u8>> {
    let (_, prefix) = PREFIXES.iter().find(|(number, _)| *number == index)?;
    Some([prefix, rest].concat())
}

/// Whether EROFS can store an attribute of this name: `user.`, `trusted.`, `security.` and the
/// two POSIX ACLs, with at most 255 bytes after the prefix.
pub fn is_storable(name: &[u8]) -> bool {
    split(name).is_some_and(|(_, rest)| rest.len() <= 255 && !rest.contains(&0))
}

/// The attributes in use, each with its place in the shared area.
#[derive(Debug, Default)]
pub struct SharedXattrs {
    places: HashMap<Box<[u8]>, u32>,
    size: usize,
}

impl SharedXattrs {
    /// What follows an inode with these attributes, and the count field that goes with it.
    pub fn body(&mut self, xattrs: &Xattrs) -> Result<(u16, Vec<u8>), WriteError> {
        if xattrs.is_empty() {
            return Ok((0, Vec::new()));
        }
        if xattrs.len() > MAX_XATTRS {
            return Err(WriteError::TooManyXattrs(xattrs.len()));
        }
        let mut body = vec![0; XATTR_HEADER];
        body[4] = xattrs.len() as u8;
        for (name, value) in xattrs {
            body.extend(self.place(name, value)?.to_le_bytes());
        }
        Ok((xattrs.len() as u16 + 1, body))
    }

    /// Where this attribute is in the area, in units of 4 bytes.
    fn place(&mut self, name: &[u8], value: &[u8]) -> Result<u32, WriteError> {
        let (index, rest) = split(name)
            .filter(|_| is_storable(name))
            .ok_or_else(|| WriteError::XattrName(name.escape_ascii().to_string()))?;
        if value.len() > MAX_VALUE {
            return Err(WriteError::XattrValue(
                name.escape_ascii().to_string(),
                value.len(),
            ));
        }
        let mut entry = vec![rest.len() as u8, index];
        entry.extend((value.len() as u16).to_le_bytes());
        entry.extend_from_slice(rest);
        entry.extend_from_slice(value);
        entry.resize(entry.len().next_multiple_of(4), 0);
        if let Some(place) = self.places.get(entry.as_slice()) {
            return Ok(*place);
        }
        let place = u32::try_from(self.size / 4).map_err(|_| WriteError::ImageTooLarge)?;
        self.size += entry.len();
        self.places.insert(entry.into(), place);
        Ok(place)
    }

    /// Memory that the attributes take, roughly.
    pub fn memory(&self) -> usize {
        self.size + self.places.len() * 64
    }

    /// The whole area.
    pub fn into_area(self) -> Vec<u8> {
        let mut entries: Vec<_> = self.places.into_iter().collect();
        entries.sort_unstable_by_key(|(_, place)| *place);
        let mut area = Vec::with_capacity(self.size);
        for (entry, _) in entries {
            area.extend_from_slice(&entry);
        }
        area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in [
            "user.a",
            "security.capability",
            "trusted.x.y",
            "system.posix_acl_access",
        ] {
            let (index, rest) = split(good.as_bytes()).unwrap();
            assert_eq!(full_name(index, rest).unwrap(), good.as_bytes());
            assert!(is_storable(good.as_bytes()));
        }
        for bad in [
            "",
            "user",
            "user.",
            "system.nfs4_acl",
            "system.posix_acl_access2",
            "a.b",
        ] {
            assert!(!is_storable(bad.as_bytes()), "{bad}");
        }
        assert!(!is_storable(format!("user.{}", "x".repeat(256)).as_bytes()));
    }

    #[test]
    fn equal_attributes_are_stored_once() {
        let mut shared = SharedXattrs::default();
        let xattrs = Xattrs::from([(b"user.a".to_vec(), vec![1; 100])]);
        let first = shared.body(&xattrs).unwrap();
        assert_eq!(shared.body(&xattrs).unwrap(), first);
        assert_eq!(shared.memory(), 108 + 64);
        assert_eq!(shared.into_area().len(), 108);
    }

    #[test]
    fn limits() {
        let mut shared = SharedXattrs::default();
        let many = (0..256)
            .map(|i| (format!("user.{i}").into_bytes(), Vec::new()))
            .collect();
        assert!(matches!(
            shared.body(&many),
            Err(WriteError::TooManyXattrs(256))
        ));
        let large = Xattrs::from([(b"user.a".to_vec(), vec![0; 65_536])]);
        assert!(matches!(
            shared.body(&large),
            Err(WriteError::XattrValue(_, 65_536))
        ));
        let odd = Xattrs::from([(b"system.other".to_vec(), vec![])]);
        assert!(matches!(shared.body(&odd), Err(WriteError::XattrName(_))));
    }
}
