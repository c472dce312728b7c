//! PAX extended headers: records of keys and values that replace what headers cannot hold.

use std::str;

use super::TarError;
use super::sparse::Map;
use crate::image::erofs::{Timestamp, Xattrs};

/// What extended headers say about the member that follows them.
#[derive(Debug, Default)]
pub struct Extensions {
    /// The member's name.
    pub path: Option<Vec<u8>>,
    /// What a link points to.
    pub link_path: Option<Vec<u8>>,
    /// Bytes of data.
    pub size: Option<u64>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Time of the last change.
    pub mtime: Option<Timestamp>,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// What GNU tar says about a sparse file.
    pub sparse: SparseExtensions,
}

/// What GNU tar says about a sparse file in its three PAX formats.
#[derive(Debug, Default)]
pub struct SparseExtensions {
    /// Whether there is anything.
    pub present: bool,
    /// Whether the map is at the beginning of the data (format 1.0).
    pub map_in_data: bool,
    /// The member's real name.
    pub name: Option<Vec<u8>>,
    /// The file's size with holes.
    pub real_size: Option<u64>,
    /// Offsets and lengths of data, in turn (formats 0.0 and 0.1).
    pub numbers: Vec<u64>,
}

impl SparseExtensions {
    /// The map, if it is in the extended header.
    pub fn map(&self, real_size: u64) -> Result<Map, TarError> {
        Map::from_numbers(&self.numbers, real_size)
    }
}

impl Extensions {
    /// Adds all records in `data`, an extended header's content.
    pub fn parse(&mut self, mut data: &[u8]) -> Result<(), TarError> {
        while !data.is_empty() {
            let (key, value, rest) = record(data).ok_or(TarError::Pax)?;
            self.add(key, value)?;
            data = rest;
        }
        Ok(())
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.contains(&0) {
                return Err(TarError::Pax);
            }
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            self.sparse.present = true;
            return self.add_sparse(key, value);
        }
        // An empty value takes back what was said before.
        let set = |value: &[u8]| (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = set(value),
            b"linkpath" => self.link_path = set(value),
            b"size" => self.size = optional(value, decimal)?,
            b"uid" => self.uid = optional(value, id)?,
            b"gid" => self.gid = optional(value, id)?,
            b"mtime" => self.mtime = optional(value, timestamp)?,
            _ => {}
        }
        Ok(())
    }

    fn add_sparse(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let sparse = &mut self.sparse;
        match key {
            b"major" => sparse.map_in_data = decimal(value).ok_or(TarError::Pax)? == 1,
            b"name" => sparse.name = Some(value.to_vec()),
            b"size" | b"realsize" => {
                sparse.real_size = Some(decimal(value).ok_or(TarError::Pax)?);
            }
            b"offset" | b"numbytes" => {
                // They come in turn, an offset first.
                if sparse.numbers.len().is_multiple_of(2) != (key == b"offset") {
                    return Err(TarError::Sparse);
                }
                sparse.numbers.push(decimal(value).ok_or(TarError::Pax)?);
            }
            b"map" => {
                let numbers = value
                    .split(|&byte| byte == b',')
                    .filter(|part| !part.is_empty());
                sparse.numbers = numbers
                    .map(decimal)
                    .collect::<Option<_>>()
                    .ok_or(TarError::Sparse)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Splits the first record off: its key, its value and the rest.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    let content = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = content
        .iter()
        .position(|&byte| byte == b'=')
        .filter(|at| *at > 0)?;
    Some((&content[..equals], &content[equals + 1..], rest))
}

fn optional<T>(value: &[u8], parse: fn(&[u8]) -> Option<T>) -> Result<Option<T>, TarError> {
    if value.is_empty() {
        Ok(None)
    } else {
        parse(value).map(Some).ok_or(TarError::Pax)
    }
}

/// A decimal number and nothing else.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

fn id(text: &[u8]) -> Option<u32> {
    decimal(text)?.try_into().ok()
}

/// Seconds with any number of digits after a point; what is below a nanosecond is cut off.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let secs = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9);
    let nanos = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, _) => Timestamp { secs, nanos },
        (true, 0) => Timestamp { secs: -secs, nanos },
        (true, _) => Timestamp {
            secs: -secs - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(secs: i64, nanos: u32) -> Option<Timestamp> {
        Some(Timestamp { secs, nanos })
    }

    #[test]
    fn times() {
        assert_eq!(
            timestamp(b"1700000000.123456789"),
            at(1_700_000_000, 123_456_789)
        );
        assert_eq!(timestamp(b"5.5"), at(5, 500_000_000));
        assert_eq!(timestamp(b"5."), at(5, 0));
        assert_eq!(timestamp(b"5.1234567899"), at(5, 123_456_789));
        assert_eq!(timestamp(b"-1.5"), at(-2, 500_000_000));
        assert_eq!(timestamp(b"-3"), at(-3, 0));
        for bad in [
            &b""[..],
            b"-",
            b".5",
            b"1.x",
            b"1e3",
            b"99999999999999999999",
        ] {
            assert_eq!(timestamp(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn records() {
        let mut extensions = Extensions::default();
        extensions
            .parse(b"9 path=a\n11 uid=123\n31 SCHILY.xattr.user.x=a=\0\nb=c\n")
            .unwrap();
        assert_eq!(extensions.path.as_deref(), Some(&b"a"[..]));
        assert_eq!(extensions.uid, Some(123));
        assert_eq!(extensions.xattrs[&b"user.x"[..]], b"a=\0\nb=c");
        extensions.parse(b"8 path=\n").unwrap();
        assert_eq!(extensions.path, None);
        for bad in [
            "x",
            "5 a=b\n",
            "99 a=b\n",
            "6 a=b\nx",
            "4 a\n",
            "5 =b\n",
            "11 uid=-12\n",
        ] {
            assert!(
                Extensions::default().parse(bad.as_bytes()).is_err(),
                "{bad:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(data: Vec<u8>) {
            let _ = Extensions::default().parse(&data);
            let _ = timestamp(&data);
        }

        #[test]
        fn values_survive(name in "[a-z.]{1,20}", value: Vec<u8>) {
            let body = [b" SCHILY.xattr.", name.as_bytes(), b"=", &value, b"\n"].concat();
            let mut length = body.len();
            while length != body.len() + length.to_string().len() {
                length = body.len() + length.to_string().len();
            }
            let record = [length.to_string().as_bytes(), &body].concat();
            let mut extensions = Extensions::default();
            extensions.parse(&record).unwrap();
            prop_assert_eq!(&extensions.xattrs[name.as_bytes()], &value);
        }
    }
}
