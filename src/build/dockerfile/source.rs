//! Where in a Dockerfile something stands, and how a mistake there is shown.

use std::fmt;

/// A stretch of a file: byte offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Where it begins.
    pub start: usize,
    /// Where it has ended.
    pub end: usize,
}

impl Span {
    /// From `start` up to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }
}

/// A mistake in a Dockerfile, shown as a compiler shows one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// One sentence.
    pub message: String,
    /// The line.
    pub text: String,
    /// How many characters of it are meant.
    pub width: usize,
}

/// The most of a line that is shown, in characters.
const SHOWN: usize = 160;

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
            text,
            width,
        } = self;
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        let number = line.to_string();
        // Tabs and control characters would put the caret elsewhere, or worse.
        let tame = |c: char| if c.is_control() { ' ' } else { c };
        let shown: String = text.chars().take(SHOWN).map(tame).collect();
        writeln!(f, " {number} | {shown}")?;
        let before = column.saturating_sub(1).min(SHOWN);
        let carets = (*width).clamp(1, SHOWN.saturating_sub(before).max(1));
        write!(
            f,
            " {} | {}{}",
            " ".repeat(number.len()),
            " ".repeat(before),
            "^".repeat(carets)
        )
    }
}

/// A Dockerfile's name and text.
#[derive(Debug, Clone)]
pub struct Source {
    /// As messages call it.
    pub name: String,
    /// What is in it.
    pub text: String,
}

impl Source {
    /// The mistake `message` at `span`.
    pub fn mistake(&self, span: Span, message: impl Into<String>) -> Mistake {
        let floor = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (start, end) = (floor(span.start), floor(span.end));
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let text = self.text[line_start..].lines().next().unwrap_or_default();
        let line_end = line_start + text.len();
        let meant = self.text.get(start..end.min(line_end)).unwrap_or_default();
        Mistake {
            file: self.name.clone(),
            line: before.matches('\n').count() + 1,
            column: self.text[line_start..start].chars().count() + 1,
            message: message.into(),
            text: text.to_owned(),
            width: meant.chars().count(),
        }
    }
}

/// Of `known`, the word that `word` was probably meant to be.
pub fn suggest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > 40 {
        return None;
    }
    let upper = word.to_ascii_uppercase();
    let ranked = known
        .iter()
        .map(|&it| (distance(&upper, &it.to_ascii_uppercase()), it));
    let (far, best) = ranked.min_by_key(|(far, _)| *far)?;
    (far <= 2 && far < best.len().min(word.len())).then_some(best)
}

/// How many letters to add, drop, change or swap.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_points_at_its_text() {
        let source = Source {
            name: "Dockerfile".to_owned(),
            text: "FROM x\nRUN é\tfoo\n".to_owned(),
        };
        let at = source.text.find("foo").unwrap();
        let shown = source.mistake(Span::new(at, at + 3), "no").to_string();
        assert_eq!(shown, "Dockerfile:2:7: no\n 2 | RUN é foo\n   |       ^^^");
        // Nonsense positions are clamped.
        source.mistake(Span::new(12, 9999), "x");
        source.mistake(Span::new(9999, 3), "x");
    }

    #[test]
    fn misspelt_words_are_recognised() {
        let known = ["RUN", "FROM", "ENTRYPOINT", "COPY"];
        assert_eq!(suggest("RNU", &known), Some("RUN"));
        assert_eq!(suggest("form", &known), Some("FROM"));
        assert_eq!(suggest("ENTRPOINT", &known), Some("ENTRYPOINT"));
        assert_eq!(suggest("XYZ", &known), None);
        assert_eq!(suggest("", &known), None);
    }
}
