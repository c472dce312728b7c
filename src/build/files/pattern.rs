//! Patterns of file names as Go's `filepath.Match` has them, with `**`, and `.dockerignore`.

use super::FileError;

/// Whether a name has anything special in it.
pub fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `*`
    Any,
    /// `?`
    One,
    /// A character.
    Just(char),
    /// `[a-c]`, or with `^` all but those.
    Among(Vec<(char, char)>, bool),
}

/// A pattern of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
    any_depth: bool,
}

impl Pattern {
    /// Reads a pattern without slashes.
    pub fn new(text: &str) -> Result<Self, FileError> {
        let bad = |why| FileError::Pattern(text.to_owned(), why);
        let mut parts = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => Part::Just(characters.next().ok_or_else(|| bad("a \\ at the end"))?),
                '[' => class(&mut characters).map_err(bad)?,
                c => Part::Just(c),
            });
        }
        Ok(Self {
            any_depth: text == "**",
            parts,
        })
    }

    /// Whether it is `**`, which matches any number of names.
    pub fn is_any_depth(&self) -> bool {
        self.any_depth
    }

    /// Whether it matches the whole name.
    pub fn matches(&self, name: &[u8]) -> bool {
        let text: Vec<char> = String::from_utf8_lossy(name).chars().collect();
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            let fits = match self.parts.get(p) {
                Some(Part::Any) => {
                    star = Some((p, t));
                    p += 1;
                    continue;
                }
                Some(Part::One) => true,
                Some(Part::Just(c)) => *c == text[t],
                Some(Part::Among(ranges, negated)) => {
                    let inside = ranges.iter().any(|(a, b)| (*a..=*b).contains(&text[t]));
                    inside != *negated
                }
                None => false,
            };
            if fits {
                p += 1;
                t += 1;
            } else if let Some((at, taken)) = star {
                star = Some((at, taken + 1));
                p = at + 1;
                t = taken + 1;
            } else {
                return false;
            }
        }
        self.parts[p..].iter().all(|part| *part == Part::Any)
    }
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// What follows a `[`.
fn class(characters: &mut Characters<'_>) -> Result<Part, &'static str> {
    const OPEN: &str = "a [ without its ]";
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match characters.next().ok_or(OPEN)? {
            ']' if !ranges.is_empty() => return Ok(Part::Among(ranges, negated)),
            ']' | '-' => return Err("a range without its begin"),
            '\\' => characters.next().ok_or(OPEN)?,
            c => c,
        };
        let mut high = low;
        if characters.next_if_eq(&'-').is_some() {
            high = match characters.next().ok_or(OPEN)? {
                ']' | '-' => return Err("a range without its end"),
                '\\' => characters.next().ok_or(OPEN)?,
                c => c,
            };
        }
        ranges.push((low, high));
    }
}

/// Whether the pattern's names match the path's names, all of them.
fn matches_path(pattern: &[Pattern], path: &[&[u8]]) -> bool {
    // As within a name: only the last `**` can need another try.
    let (mut p, mut n) = (0, 0);
    let mut depth: Option<(usize, usize)> = None;
    while let Some(name) = path.get(n) {
        match pattern.get(p) {
            Some(part) if part.is_any_depth() => {
                depth = Some((p, n));
                p += 1;
                continue;
            }
            Some(part) if part.matches(name) => {
                p += 1;
                n += 1;
                continue;
            }
            _ => {}
        }
        let Some((at, taken)) = depth else {
            return false;
        };
        depth = Some((at, taken + 1));
        p = at + 1;
        n = taken + 1;
    }
    pattern[p..].iter().all(Pattern::is_any_depth)
}

/// The most rules of one file.
const MAX_RULES: usize = 10_000;

/// What a `.dockerignore` leaves out.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    /// Patterns and whether they are exceptions; the last that matches decides.
    rules: Vec<(Vec<Pattern>, bool)>,
}

impl Ignore {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let mut ignore = Self::default();
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (line, exception) = match line.strip_prefix('!') {
                Some(rest) => (rest.trim(), true),
                None => (line, false),
            };
            ignore.add(line, exception)?;
        }
        Ok(ignore)
    }

    /// Adds a rule.
    pub fn add(&mut self, pattern: &str, exception: bool) -> Result<(), FileError> {
        let mut parts: Vec<&str> = Vec::new();
        for part in pattern.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                // Several in a row are one.
                "**" if parts.last() == Some(&"**") => {}
                part => parts.push(part),
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        if self.rules.len() >= MAX_RULES {
            return Err(FileError::Pattern(pattern.to_owned(), "there are too many"));
        }
        let parts = parts
            .into_iter()
            .map(Pattern::new)
            .collect::<Result<_, _>>()?;
        self.rules.push((parts, exception));
        Ok(())
    }

    /// Whether an ignored directory may hold something that is not.
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|(_, exception)| *exception)
    }

    /// Whether the file at a path below the root is left out, by itself or with a directory
    /// that it is in.
    pub fn is_ignored(&self, path: &[u8]) -> bool {
        let names: Vec<&[u8]> = path
            .split(|b| *b == b'/')
            .filter(|n| !n.is_empty())
            .collect();
        let mut ignored = false;
        for (rule, exception) in &self.rules {
            if ignored != *exception {
                continue;
            }
            let hit = (1..=names.len())
                .rev()
                .any(|count| matches_path(rule, &names[..count]));
            if hit {
                ignored = !*exception;
            }
        }
        ignored
    }
}
