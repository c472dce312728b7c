//! The keys that leave a container running: `ctrl-p,ctrl-q` where nobody says otherwise.

/// Docker's keys for leaving a container running: Ctrl-P Ctrl-Q.
pub const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// A sequence of keys that is nothing docker knows.
#[derive(Debug, thiserror::Error)]
#[error("invalid detach keys {0:?}, use letters and ctrl-LETTER separated by commas")]
pub struct InvalidKeys(String);

/// The bytes of a sequence such as `ctrl-p,ctrl-q`; empty means no keys.
pub fn parse_detach_keys(text: &str) -> Result<Vec<u8>, InvalidKeys> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let key = |key: &str| match (key.strip_prefix("ctrl-"), key.as_bytes()) {
        (None, [byte]) if byte.is_ascii() => Some(*byte),
        (Some(rest), _) => match rest.as_bytes() {
            [letter] if letter.is_ascii_lowercase() => Some(letter - b'a' + 1),
            [b'@'] => Some(0),
            [b'['] => Some(27),
            [b'\\'] => Some(28),
            [b']'] => Some(29),
            [b'^'] => Some(30),
            [b'_'] => Some(31),
            _ => None,
        },
        _ => None,
    };
    let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
    keys.ok_or_else(|| InvalidKeys(text.to_owned()))
}

/// Finds the detach keys in typed bytes, across reads.
#[derive(Debug)]
pub struct DetachWatch {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachWatch {
    /// Watches for `keys`.
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Whether there are no keys to watch for.
    pub fn is_idle(&self) -> bool {
        self.keys.is_empty()
    }

    /// Splits off what is to be sent on; true when the keys are complete.
    pub fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (typed.to_vec(), false);
        }
        let mut out = Vec::with_capacity(typed.len());
        for &byte in typed {
            if byte != self.keys[self.matched] {
                out.extend(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (out, true);
                }
            } else {
                out.push(byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads_and_nothing_is_lost() {
        let mut watch = DetachWatch::new(parse_detach_keys(DETACH_KEYS).unwrap());
        assert_eq!(watch.filter(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(watch.filter(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(watch.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(watch.filter(b"\x11rest"), (Vec::new(), true));
        let mut none = DetachWatch::new(Vec::new());
        assert_eq!(none.filter(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }

    #[test]
    fn keys_are_named_as_in_docker() {
        assert_eq!(parse_detach_keys("ctrl-a,b,ctrl-@").unwrap(), [1, b'b', 0]);
        for bad in ["ctrl-", "ctrl-A", "ab", "a,,b", "ctrl-ab"] {
            assert!(parse_detach_keys(bad).is_err(), "{bad}");
        }
    }
}
