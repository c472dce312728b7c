//! The `#!` line of a script, as the kernel reads it.
//!
//! Purpose: follow a script to the program that really runs, to explain why it cannot.

/// How much of a file the kernel looks at.
pub const READ_LEN: usize = 256;

/// The interpreter that a script's first line names; `None` when `start`, a file's first
/// [`READ_LEN`] bytes, is no script that the kernel would run.
pub fn interpreter(start: &[u8]) -> Option<&[u8]> {
    let start = start.get(..READ_LEN).unwrap_or(start);
    let line = start.strip_prefix(b"#!")?;
    let line = line.split(|b| *b == b'\n' || *b == 0).next()?;
    line.split(|b| *b == b' ' || *b == b'\t')
        .find(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_cut_as_the_kernel_cuts_them() {
        assert_eq!(interpreter(b"#!/bin/sh\necho"), Some(&b"/bin/sh"[..]));
        assert_eq!(
            interpreter(b"#! \t/usr/bin/env  python3 -u\n"),
            Some(&b"/usr/bin/env"[..])
        );
        assert_eq!(interpreter(b"#!/bin/sh"), Some(&b"/bin/sh"[..]));
        assert_eq!(interpreter(b"#!/bin/sh\r\n"), Some(&b"/bin/sh\r"[..]));
        assert_eq!(interpreter(b"#!\n/bin/sh"), None);
        assert_eq!(interpreter(b"#!   "), None);
        assert_eq!(interpreter(b"\x7fELF"), None);
        assert_eq!(interpreter(b""), None);
    }

    proptest! {
        #[test]
        fn any_start_is_read_without_a_panic(start in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(word) = interpreter(&start) {
                prop_assert!(start.starts_with(b"#!") && !word.is_empty() && word.len() < READ_LEN);
            }
        }
    }
}
