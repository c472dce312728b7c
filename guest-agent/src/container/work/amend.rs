//! Changing lines of a text file in place, since it may be a mount of its own.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use guest_agent::protocol::Amendment;

/// The largest file that is changed.
const MOST: u64 = 1 << 20;

/// Changes one file of the container.
pub fn file(amendment: &Amendment) -> io::Result<()> {
    let path = Path::new("/").join(&amendment.path);
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        // The container may have put anything there.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY)
        .open(&path);
    let mut file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(named)?,
    };
    if !file.metadata().map_err(named)?.is_file() {
        return Err(named(io::Error::other("not a file")));
    }
    let mut text = Vec::new();
    let read = (&file)
        .take(MOST + 1)
        .read_to_end(&mut text)
        .map_err(named)?;
    if read as u64 > MOST {
        return Err(named(io::ErrorKind::FileTooLarge.into()));
    }
    let changed = amended(&text, amendment);
    file.set_len(0).map_err(named)?;
    file.rewind().map_err(named)?;
    file.write_all(&changed).map_err(named)
}

fn amended(text: &[u8], amendment: &Amendment) -> Vec<u8> {
    let mut remove: Vec<&[u8]> = amendment.remove.iter().map(String::as_bytes).collect();
    let mut result = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        match remove.iter().position(|gone| *gone == content) {
            Some(place) => drop(remove.swap_remove(place)),
            None => result.extend_from_slice(line),
        }
    }
    if result.last().is_some_and(|byte| *byte != b'\n') {
        result.push(b'\n');
    }
    for line in &amendment.add {
        result.extend_from_slice(line.as_bytes());
        result.push(b'\n');
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_lines_change() {
        let amendment = Amendment {
            path: "/etc/hosts".into(),
            remove: vec!["10.0.0.2\tc".into(), "never there".into()],
            add: vec!["10.1.0.2\tc".into()],
        };
        let text = b"127.0.0.1\tlocalhost\n10.0.0.2\tc\n\xff mine\n10.0.0.2\tc\nno end";
        let expected = b"127.0.0.1\tlocalhost\n\xff mine\n10.0.0.2\tc\nno end\n10.1.0.2\tc\n";
        assert_eq!(amended(text, &amendment), expected);
    }

    #[test]
    fn a_file_is_changed_in_place_and_a_missing_one_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "a long line that goes\n").unwrap();
        let mut amendment = Amendment {
            path: path.to_str().unwrap().into(),
            remove: vec!["a long line that goes".into()],
            add: vec!["b".into()],
        };
        file(&amendment).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"b\n");
        amendment.path.push('2');
        file(&amendment).unwrap();
        assert!(!dir.path().join("f2").exists());
        amendment.path = dir.path().to_str().unwrap().into();
        assert!(file(&amendment).is_err());
    }
}
