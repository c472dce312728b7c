//! Maps of sparse files: which parts of a file have data; the archive holds only those.

use super::TarError;
use super::header::number;

/// The most parts of one file: 16 MB of memory.
const MAX_PARTS: usize = 1 << 20;

/// Parts with data, in order and apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    parts: Vec<(u64, u64)>,
    /// Bytes in all parts.
    data: u64,
    /// Where the last part ends.
    end: u64,
}

impl Map {
    /// Adds a part: `length` bytes of data from `offset` on.
    pub fn add(&mut self, offset: u64, length: u64, real_size: u64) -> Result<(), TarError> {
        let end = offset.checked_add(length).filter(|end| *end <= real_size);
        if offset < self.end || self.parts.len() >= MAX_PARTS {
            return Err(TarError::Sparse);
        }
        self.end = end.ok_or(TarError::Sparse)?;
        self.data += length;
        if length > 0 {
            self.parts.push((offset, length));
        }
        Ok(())
    }

    /// A map from offsets and lengths in turn.
    pub fn from_numbers(numbers: &[u64], real_size: u64) -> Result<Self, TarError> {
        let (pairs, rest) = numbers.as_chunks::<2>();
        let mut map = Self::default();
        for &[offset, length] in pairs {
            map.add(offset, length, real_size)?;
        }
        if rest.is_empty() {
            Ok(map)
        } else {
            Err(TarError::Sparse)
        }
    }

    /// Adds the parts in a piece of GNU's old format: pairs of 12-byte numbers, then zeros.
    pub fn add_gnu(&mut self, piece: &[u8], real_size: u64) -> Result<(), TarError> {
        for pair in piece.chunks_exact(24) {
            if pair[0] == 0 {
                break;
            }
            let field = |bytes| {
                number(bytes)
                    .and_then(|value| u64::try_from(value).ok())
                    .ok_or(TarError::Sparse)
            };
            self.add(field(&pair[..12])?, field(&pair[12..])?, real_size)?;
        }
        Ok(())
    }

    /// The parts, as offset and length.
    pub fn parts(&self) -> &[(u64, u64)] {
        &self.parts
    }

    /// Bytes in all parts.
    pub fn data(&self) -> u64 {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_must_make_sense() {
        assert_eq!(Map::from_numbers(&[0, 5, 10, 5], 20).unwrap().data(), 10);
        assert_eq!(Map::from_numbers(&[], 20).unwrap().parts(), []);
        assert_eq!(Map::from_numbers(&[20, 0], 20).unwrap().parts(), []);
        for bad in [
            &[0, 5, 4, 5][..],
            &[10, 5, 0, 5],
            &[0, 21],
            &[0],
            &[u64::MAX, 2],
        ] {
            assert!(Map::from_numbers(bad, 20).is_err(), "{bad:?}");
        }
    }
}
