//! Container ids: 64 hexadecimal digits of the system's randomness, 12 shown.

use std::fs::File;
use std::io::{self, Read};

/// Digits of an id that tables and messages show.
pub const SHORT: usize = 12;

/// A fresh id.
pub fn generate() -> io::Result<String> {
    // An id of digits only could be read as a number by other tools: draw again.
    loop {
        let id = hex(&random_bytes::<32>()?);
        if id[..SHORT].bytes().any(|b| b.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

/// `N` bytes of the system's randomness.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The first [`SHORT`] digits.
pub fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_well_formed() {
        let (a, b) = (generate().unwrap(), generate().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 64);
        assert!(a.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(short(&a).len(), SHORT);
        assert_eq!(short("abc"), "abc");
    }
}
