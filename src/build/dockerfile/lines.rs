//! From a Dockerfile's text to its instructions' lines: parser directives, comments,
//! continuations and heredocs.

use super::source::{Mistake, Source, Span};
use super::words;

/// What the first lines of a Dockerfile say to the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `escape`: what joins lines and makes the next character ordinary.
    pub escape: char,
    /// `syntax`: the frontend that the author had in mind.
    pub syntax: Option<String>,
    /// `check`: of lint rules.
    pub check: Option<String>,
}

/// One instruction's text, with its lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text without the heredocs' content.
    pub text: String,
    /// Pairs of an offset in `text` and the offset in the file that it came from.
    map: Vec<(usize, usize)>,
    /// What stands in the lines below.
    pub heredocs: Vec<Heredoc>,
}

/// Lines that belong to an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// The lines.
    pub content: String,
    /// Whether variables in it are for the builder (its word is not quoted).
    pub expand: bool,
    /// The file descriptor before `<<`, where there is one.
    pub descriptor: String,
    /// Tabs before the lines do not count.
    pub strip_tabs: bool,
}

impl Line {
    /// Where a stretch of the text stands in the file.
    pub fn span(&self, start: usize, end: usize) -> Span {
        let place = |at: usize| {
            let after = self.map.partition_point(|(offset, _)| *offset <= at);
            let (offset, source) = self.map[after.saturating_sub(1)];
            source + (at - offset)
        };
        let begin = place(start);
        Span::new(begin, place(end.saturating_sub(1)).max(begin) + 1)
    }

    /// Where the whole text stands.
    pub fn whole(&self) -> Span {
        self.span(0, self.text.len().max(1))
    }
}

/// The most of one instruction, with its heredocs.
const MAX_LINE: usize = 16 << 20;

/// Takes a file apart.
pub fn split(source: &Source) -> Result<(Directives, Vec<Line>), Mistake> {
    let mut reader = Reader {
        source,
        at: 0,
        directives: Directives {
            escape: '\\',
            syntax: None,
            check: None,
        },
    };
    if source.text.starts_with('\u{feff}') {
        reader.at = '\u{feff}'.len_utf8();
    }
    reader.directives()?;
    let mut lines = Vec::new();
    while let Some(line) = reader.instruction()? {
        lines.push(line);
    }
    Ok((reader.directives, lines))
}

struct Reader<'a> {
    source: &'a Source,
    at: usize,
    directives: Directives,
}

impl<'a> Reader<'a> {
    /// The next line without its end, and where it begins.
    fn next(&mut self) -> Option<(usize, &'a str)> {
        let start = self.at;
        let rest = self
            .source
            .text
            .get(start..)
            .filter(|rest| !rest.is_empty())?;
        let line = rest.split_inclusive('\n').next()?;
        self.at += line.len();
        let line = line.strip_suffix('\n').unwrap_or(line);
        Some((start, line.strip_suffix('\r').unwrap_or(line)))
    }

    fn directives(&mut self) -> Result<(), Mistake> {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let before = self.at;
            let Some((start, line)) = self.next() else {
                return Ok(());
            };
            let Some((key, value)) = directive(line) else {
                self.at = before;
                return Ok(());
            };
            let span = Span::new(start, start + line.len());
            if seen.contains(&key) {
                let message = format!("only one {key} parser directive can be used");
                return Err(self.source.mistake(span, message));
            }
            match (key.as_str(), value) {
                ("escape", "\\") => self.directives.escape = '\\',
                ("escape", "`") => self.directives.escape = '`',
                ("escape", _) => {
                    let message = format!("invalid escape directive {value:?}, it must be ` or \\");
                    return Err(self.source.mistake(span, message));
                }
                ("syntax", _) => self.directives.syntax = Some(value.to_owned()),
                _ => self.directives.check = Some(value.to_owned()),
            }
            seen.push(key);
        }
    }

    fn instruction(&mut self) -> Result<Option<Line>, Mistake> {
        let escape = self.directives.escape;
        let (start, first) = loop {
            let Some((start, line)) = self.next() else {
                return Ok(None);
            };
            let trimmed = line.trim_start();
            if !trimmed.is_empty() && !trimmed.starts_with('#') {
                break (start + (line.len() - trimmed.len()), trimmed);
            }
        };
        let mut line = Line {
            text: String::new(),
            map: vec![(0, start)],
            heredocs: Vec::new(),
        };
        let (text, mut goes_on) = without_continuation(first, escape);
        line.text.push_str(text);
        while goes_on {
            let Some((start, next)) = self.next() else {
                break;
            };
            let trimmed = next.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let (text, more) = without_continuation(next, escape);
            line.map.push((line.text.len(), start));
            line.text.push_str(text);
            goes_on = more;
            if line.text.len() > MAX_LINE {
                let message = "the instruction is too long, the limit is 16 MiB";
                return Err(self.source.mistake(line.span(0, 1), message));
            }
        }
        let end = line.text.trim_end().len();
        line.text.truncate(end);
        for begin in words::heredocs(&line.text, escape) {
            let heredoc = self.heredoc(begin, &line)?;
            line.heredocs.push(heredoc);
        }
        Ok(Some(line))
    }

    fn heredoc(&mut self, begin: words::HeredocWord, line: &Line) -> Result<Heredoc, Mistake> {
        let mut content = String::new();
        while let Some((start, _)) = self.next() {
            // With the line's own end.
            let whole = self.source.text.get(start..self.at).unwrap_or_default();
            let shown = match begin.strip_tabs {
                true => whole.trim_start_matches('\t'),
                false => whole,
            };
            if shown.trim_end_matches(['\n', '\r']) == begin.name {
                return Ok(Heredoc {
                    name: begin.name,
                    content,
                    expand: begin.expand,
                    descriptor: begin.descriptor,
                    strip_tabs: begin.strip_tabs,
                });
            }
            content.push_str(shown);
            if content.len() > MAX_LINE {
                break;
            }
        }
        let message = format!("the heredoc {:?} has no end", begin.name);
        Err(self
            .source
            .mistake(line.span(begin.start, begin.end), message))
    }
}

/// `# key=value` with a key that the parser knows.
fn directive(line: &str) -> Option<(String, &str)> {
    let rest = line.strip_prefix('#')?;
    let (key, value) = rest.split_once('=')?;
    let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
    let known = matches!(key.as_str(), "escape" | "syntax" | "check");
    (known && !value.is_empty()).then_some((key, value))
}

/// The line without what joins it to the next, and whether there was such a thing.
fn without_continuation(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        // An escape that is escaped itself.
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(text: &str) -> Source {
        Source {
            name: "Dockerfile".to_owned(),
            text: text.to_owned(),
        }
    }

    fn texts(text: &str) -> Vec<String> {
        let (_, lines) = split(&source(text)).unwrap();
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_are_joined_and_comments_left_out() {
        assert_eq!(
            texts("# c\n\n  FROM x \\\n# in between\n\n   AS y\nRUN a\\\n b # not one\n"),
            ["FROM x    AS y", "RUN a b # not one"]
        );
        assert_eq!(texts("RUN a \\\\\nCMD b"), ["RUN a \\\\", "CMD b"]);
        assert_eq!(
            texts("RUN a \\  \n  b\r\nCMD c\r\n"),
            ["RUN a   b", "CMD c"]
        );
        assert_eq!(texts("RUN a \\"), ["RUN a"]);
        assert_eq!(texts("\u{feff}FROM x"), ["FROM x"]);
        assert_eq!(texts(""), [""; 0]);
    }

    #[test]
    fn directives_stand_first_only() {
        let (directives, lines) = split(&source(
            "# Syntax = docker/dockerfile:1\n#escape=`\nRUN a `\nb",
        ))
        .unwrap();
        assert_eq!(directives.syntax.as_deref(), Some("docker/dockerfile:1"));
        assert_eq!(directives.escape, '`');
        assert_eq!(lines[0].text, "RUN a b");
        for late in [
            "# other\n# escape=`\n",
            "\n# escape=`\n",
            "# unknown=1\n# escape=`\n",
        ] {
            assert_eq!(split(&source(late)).unwrap().0.escape, '\\', "{late}");
        }
        assert!(split(&source("# escape=x\n")).is_err());
        assert!(split(&source("# syntax=a\n# syntax=b\n")).is_err());
    }

    #[test]
    fn heredocs_belong_to_their_instruction() {
        let text = "RUN <<EOF cat - <<-'B'\na $x\n  EOF\nEOF\n\tb\n\tB\nCMD x\n";
        let (_, lines) = split(&source(text)).unwrap();
        let [run, cmd] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert_eq!(cmd.text, "CMD x");
        let [a, b] = run.heredocs.as_slice() else {
            panic!("{run:?}")
        };
        assert_eq!((a.content.as_str(), a.expand), ("a $x\n  EOF\n", true));
        assert_eq!((b.content.as_str(), b.expand), ("b\n", false));
        let error = split(&source("FROM a\nCOPY <<X /x\nabc\n")).unwrap_err();
        assert_eq!((error.line, error.column), (2, 6));
        assert_eq!(
            texts("RUN echo $((1<<2)) a<<b"),
            ["RUN echo $((1<<2)) a<<b"]
        );
        assert_eq!(texts("CMD cat <<EOF"), ["CMD cat <<EOF"]);
        assert_eq!(
            texts("RUN [\"cat\", \"<<EOF\"]"),
            ["RUN [\"cat\", \"<<EOF\"]"]
        );
    }

    #[test]
    fn positions_are_those_of_the_file() {
        let text = "FROM x\nRUN a \\\n  bcd \\\n e\n";
        let (_, lines) = split(&source(text)).unwrap();
        let at = lines[1].text.find("bcd").unwrap();
        assert_eq!(lines[1].span(at, at + 3), Span::new(17, 20));
        assert_eq!(&text[17..20], "bcd");
    }

    proptest! {
        #[test]
        fn any_text_is_split_without_a_panic(text in "(?s)[ -~\\n\\t\\\\#<'\"é`=-]{0,200}") {
            if let Ok((_, lines)) = split(&source(&text)) {
                for line in lines {
                    let whole = line.whole();
                    prop_assert!(whole.start <= whole.end && whole.start < text.len());
                    for at in 0..line.text.len() {
                        line.span(at, line.text.len());
                    }
                }
            }
        }
    }
}
