//! The 512-byte blocks that begin every member of a tar archive.

use super::TarError;

/// Bytes in a block; everything in an archive is padded to it.
pub const BLOCK: usize = 512;

/// One header block whose checksum is right.
#[derive(Debug)]
pub struct Header(pub [u8; BLOCK]);

/// Which dialect a header is written in; it decides what the last 167 bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// Before POSIX: nothing there.
    Old,
    /// POSIX: a prefix of the name.
    Ustar,
    /// Jörg Schilling's: a shorter prefix, then times.
    Star,
    /// GNU: times, then the map of a sparse file.
    Gnu,
}

impl Header {
    /// Checks the checksum.
    pub fn new(block: [u8; BLOCK]) -> Option<Self> {
        let header = Self(block);
        let stated = number(header.field(148, 8))?;
        let in_sum = || {
            let blank = [b' '; 8];
            header.0[..148]
                .iter()
                .copied()
                .chain(blank)
                .chain(header.0[156..].iter().copied())
        };
        let unsigned: i64 = in_sum().map(i64::from).sum();
        // Some old programs summed signed bytes.
        let signed: i64 = in_sum().map(|byte| i64::from(byte.cast_signed())).sum();
        (stated == unsigned || stated == signed).then_some(header)
    }

    fn field(&self, at: usize, length: usize) -> &[u8] {
        &self.0[at..at + length]
    }

    fn text(&self, at: usize, length: usize) -> &[u8] {
        until_nul(self.field(at, length))
    }

    fn dialect(&self) -> Dialect {
        match self.field(257, 8) {
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"ustar\0") => {
                if self.field(508, 4) == b"tar\0" {
                    Dialect::Star
                } else {
                    Dialect::Ustar
                }
            }
            _ => Dialect::Old,
        }
    }

    /// The type letter.
    pub fn type_flag(&self) -> u8 {
        self.0[156]
    }

    /// The name, from both its parts.
    pub fn name(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = match self.dialect() {
            Dialect::Ustar => self.text(345, 155),
            Dialect::Star => self.text(345, 131),
            Dialect::Old | Dialect::Gnu => b"",
        };
        if prefix.is_empty() {
            name.to_vec()
        } else {
            [prefix, b"/", name].concat()
        }
    }

    /// The name that a link points to.
    pub fn link_name(&self) -> &[u8] {
        self.text(157, 100)
    }

    /// Permissions and, in some archives, type bits.
    pub fn mode(&self) -> Result<u16, TarError> {
        Ok((self.number("mode", 100, 8)? & 0o7777) as u16)
    }

    /// Owner.
    pub fn uid(&self) -> Result<u32, TarError> {
        self.unsigned("uid", 108, 8)
    }

    /// Group.
    pub fn gid(&self) -> Result<u32, TarError> {
        self.unsigned("gid", 116, 8)
    }

    /// Bytes of the member's data.
    pub fn size(&self) -> Result<u64, TarError> {
        u64::try_from(self.number("size", 124, 12)?).map_err(|_| TarError::Field("size"))
    }

    /// Seconds of the last change.
    pub fn mtime(&self) -> Result<i64, TarError> {
        self.number("mtime", 136, 12)
    }

    /// Major and minor device number.
    pub fn device(&self) -> Result<(u32, u32), TarError> {
        if self.dialect() == Dialect::Old {
            return Ok((0, 0));
        }
        Ok((
            self.unsigned("devmajor", 329, 8)?,
            self.unsigned("devminor", 337, 8)?,
        ))
    }

    /// For GNU's sparse files: the map's first part, whether more follows, and the real size.
    pub fn gnu_sparse(&self) -> Result<(&[u8], bool, u64), TarError> {
        let size = self.number("realsize", 483, 12)?;
        let size = u64::try_from(size).map_err(|_| TarError::Field("realsize"))?;
        Ok((self.field(386, 96), self.0[482] != 0, size))
    }

    fn number(&self, name: &'static str, at: usize, length: usize) -> Result<i64, TarError> {
        number(self.field(at, length)).ok_or(TarError::Field(name))
    }

    fn unsigned(&self, name: &'static str, at: usize, length: usize) -> Result<u32, TarError> {
        u32::try_from(self.number(name, at, length)?).map_err(|_| TarError::Field(name))
    }
}

/// A numeric field: octal digits, or binary if the first bit is set.
pub fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Two's complement in all bits but the first, which only marks it.
        let top = if first & 0x40 != 0 {
            first
        } else {
            first & 0x7f
        };
        return field[1..]
            .iter()
            .try_fold(i64::from(top.cast_signed()), |value, byte| {
                value.checked_mul(256)?.checked_add(i64::from(*byte))
            });
    }
    let digits = until_nul(field).trim_ascii();
    digits.iter().try_fold(0i64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value.checked_mul(8)?.checked_add(digit.into())
    })
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"77777777777\0"), Some(0o77_777_777_777));
        assert_eq!(number(b"8"), None);
        assert_eq!(number(b"12x"), None);
        assert_eq!(number(&[0x80, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff]), Some(-1));
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xfe]), Some(-2));
        assert_eq!(
            number(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]),
            Some(i64::MAX)
        );
        assert_eq!(number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(number(&[0xff; 12]), Some(-1));
    }

    #[test]
    fn a_wrong_checksum_is_noticed() {
        let mut header = tar::Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_cksum();
        assert!(Header::new(*header.as_bytes()).is_some());
        let mut broken = *header.as_bytes();
        broken[0] = b'b';
        assert!(Header::new(broken).is_none());
    }
}
