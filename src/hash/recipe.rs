//! The poor man's hash of a directory:
//! `find DIR -type f -exec sha1sum {} + | LC_ALL=C sort -k 2 | sha1sum`.

use sha1::{Digest as _, Sha1};

use super::listing::{Kind, Listing};

/// The text that the recipe makes, and its SHA-1 in hexadecimal digits. `directory` is how the
/// directory was written: its name is part of every line, and so of the hash.
pub fn recipe(listing: &Listing, directory: &[u8]) -> (Vec<u8>, String) {
    let mut lines: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (path, entry) in &listing.0 {
        if entry.kind != Kind::File {
            continue;
        }
        let mut name = directory.to_vec();
        if !path.is_empty() {
            if !name.ends_with(b"/") {
                name.push(b'/');
            }
            name.extend_from_slice(path);
        }
        let (escaped, mark) = escape(&name);
        let digits: String = entry
            .sha1
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        // From its second field on a line is sorted by its name, blanks first, then as a whole.
        let key = [b"  ", escaped.as_slice()].concat();
        let line = [mark, digits.as_bytes(), &key, b"\n"].concat();
        lines.push((key, line));
    }
    lines.sort();
    let text: Vec<u8> = lines.into_iter().flat_map(|(_, line)| line).collect();
    let digest = Sha1::digest(&text);
    (
        text,
        digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    )
}

/// A name as sha1sum prints it; what it puts before the line where it had to change the name.
fn escape(name: &[u8]) -> (Vec<u8>, &'static [u8]) {
    if !name.iter().any(|byte| b"\\\n\r".contains(byte)) {
        return (name.to_vec(), b"");
    }
    let mut escaped = Vec::with_capacity(name.len() + 2);
    for byte in name {
        match byte {
            b'\\' => escaped.extend_from_slice(b"\\\\"),
            b'\n' => escaped.extend_from_slice(b"\\n"),
            b'\r' => escaped.extend_from_slice(b"\\r"),
            other => escaped.push(*other),
        }
    }
    (escaped, b"\\")
}
