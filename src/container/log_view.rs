//! A container's log as it is shown: which part of it, with or without times, and what comes
//! while somebody looks.

use std::io;
use std::path::{Path, PathBuf};

use super::logs::{self, Reader, Record, Stream};
use crate::time::rfc3339;

/// What of a log is wanted, and how.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// So many lines from the end; all where there is no number.
    pub tail: Option<usize>,
    /// Nothing from before this time.
    pub since: Option<i64>,
    /// Nothing from after this time.
    pub until: Option<i64>,
    /// With the time at the beginning of every line.
    pub timestamps: bool,
    /// With the details that docker's drivers have and hull's has not.
    pub details: bool,
}

/// A number of lines as docker takes it: `all`, and what is negative, is everything.
pub fn parse_tail(text: &str) -> anyhow::Result<Option<usize>> {
    if text == "all" || text.is_empty() {
        return Ok(None);
    }
    let Ok(lines) = text.parse::<i64>() else {
        anyhow::bail!("invalid number of lines {text:?}, use a number or all");
    };
    Ok(usize::try_from(lines).ok())
}

/// Goes through a log; at its end it can be asked again when there may be more.
#[derive(Debug)]
pub struct View {
    path: PathBuf,
    wanted: Wanted,
    reader: Option<Reader>,
    /// Lines of the beginning that are left out.
    skip: usize,
    /// The older of the two files is being read.
    older: bool,
    line_start: [bool; 2],
}

impl View {
    /// A view of the log at `path`, which need not be there yet.
    pub fn new(path: &Path, wanted: Wanted) -> io::Result<Self> {
        let skip = match wanted.tail {
            None => 0,
            Some(lines) => count_lines(path)?.saturating_sub(lines),
        };
        Ok(Self {
            path: path.to_owned(),
            wanted,
            reader: open(&logs::set_aside(path))?,
            skip,
            older: true,
            line_start: [true; 2],
        })
    }

    /// The next piece as it is shown; none when nothing more is there yet.
    pub fn next_piece(&mut self) -> io::Result<Option<(Stream, Vec<u8>)>> {
        while let Some(record) = self.next_record()? {
            let early = self.wanted.since.is_some_and(|since| record.time < since);
            let late = self.wanted.until.is_some_and(|until| record.time > until);
            let bytes = skip_lines(&record.bytes, &mut self.skip);
            if early || late || bytes.is_empty() {
                continue;
            }
            let shown = self.decorate(&record, bytes);
            return Ok(Some((record.stream, shown)));
        }
        Ok(None)
    }

    fn next_record(&mut self) -> io::Result<Option<Record>> {
        loop {
            if self.reader.is_none() {
                if self.older {
                    self.older = false;
                }
                self.reader = open(&self.path)?;
            }
            let Some(reader) = &mut self.reader else {
                return Ok(None);
            };
            if let Some(record) = reader.next_record()? {
                return Ok(Some(record));
            }
            // A new file began meanwhile: the old one is read to its end, which it has now.
            let finished = self.older || reader.is_set_aside(&self.path)?;
            if !finished {
                return Ok(None);
            }
            if let Some(record) = reader.next_record()? {
                return Ok(Some(record));
            }
            self.older = false;
            self.reader = None;
            if !self.path.exists() {
                return Ok(None);
            }
        }
    }

    fn decorate(&mut self, record: &Record, bytes: &[u8]) -> Vec<u8> {
        if !self.wanted.timestamps && !self.wanted.details {
            return bytes.to_vec();
        }
        let line_start = &mut self.line_start[usize::from(record.stream == Stream::Stderr)];
        let stamp = rfc3339(record.time);
        let mut text = Vec::with_capacity(bytes.len() + stamp.len() + 1);
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            if *line_start {
                if self.wanted.timestamps {
                    text.extend(stamp.as_bytes());
                    text.push(b' ');
                }
                // As docker, where the details are empty.
                if self.wanted.details {
                    text.push(b' ');
                }
            }
            text.extend(line);
            *line_start = line.ends_with(b"\n");
        }
        text
    }
}

fn open(path: &Path) -> io::Result<Option<Reader>> {
    match Reader::open(path) {
        Ok(reader) => Ok(Some(reader)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn count_lines(path: &Path) -> io::Result<usize> {
    let (mut lines, mut open_line) = (0, false);
    for part in [logs::set_aside(path), path.to_owned()] {
        let Some(mut reader) = open(&part)? else {
            continue;
        };
        while let Some(record) = reader.next_record()? {
            lines += record.bytes.iter().filter(|&&b| b == b'\n').count();
            open_line = record.bytes.last().map_or(open_line, |&b| b != b'\n');
        }
    }
    Ok(lines + usize::from(open_line))
}

/// What is left of `bytes` after `skip` lines, which counts down.
fn skip_lines<'a>(bytes: &'a [u8], skip: &mut usize) -> &'a [u8] {
    let mut rest = bytes;
    while *skip > 0 {
        match rest.iter().position(|&b| b == b'\n') {
            Some(end) => {
                rest = &rest[end + 1..];
                *skip -= 1;
            }
            None => return &[],
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::logs::Writer;

    #[test]
    fn lines_are_skipped_across_chunks() {
        let mut skip = 2;
        assert_eq!(skip_lines(b"a\nb", &mut skip), b"");
        assert_eq!(skip, 1);
        assert_eq!(skip_lines(b"c\nd\n", &mut skip), b"d\n");
        assert_eq!(skip_lines(b"e", &mut skip), b"e");
        assert_eq!(parse_tail("-1").unwrap(), None);
        assert_eq!(parse_tail("3").unwrap(), Some(3));
        assert!(parse_tail("x").is_err());
    }

    fn rest(view: &mut View) -> String {
        let mut text = Vec::new();
        while let Some((_, bytes)) = view.next_piece().unwrap() {
            text.extend(bytes);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_view_goes_on_where_it_was_through_a_change_of_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let wanted = || Wanted {
            tail: Some(1),
            ..Wanted::default()
        };
        let mut view = View::new(&path, wanted()).unwrap();
        assert_eq!(rest(&mut view), "");
        let mut writer = Writer::open(&path, 64).unwrap();
        let mut expected = String::new();
        for number in 0..20 {
            let line = format!("line {number}\n");
            writer.append(Stream::Stdout, 5, line.as_bytes()).unwrap();
            assert_eq!(rest(&mut view), line);
            expected = line;
        }
        assert_eq!(rest(&mut View::new(&path, wanted()).unwrap()), expected);
        let stamped = Wanted {
            timestamps: true,
            ..wanted()
        };
        let text = rest(&mut View::new(&path, stamped).unwrap());
        assert_eq!(text, format!("1970-01-01T00:00:00.000000005Z {expected}"));
        let late = Wanted {
            since: Some(6),
            ..Wanted::default()
        };
        assert_eq!(rest(&mut View::new(&path, late).unwrap()), "");
    }
}
