//! The words of an instruction: options, quotes, lists, names and values, heredocs.
//!
//! Words keep their quotes and variables: those are taken away when an instruction is carried
//! out, with the values of that moment ([`super::expand`]).

/// A word and where it stands in its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As it is written.
    pub text: String,
    /// Where it begins in the line.
    pub start: usize,
    /// Where it has ended.
    pub end: usize,
}

/// Splits at spaces outside of quotes; the quotes stay.
pub fn split(text: &str, from: usize, escape: char) -> Vec<Word> {
    let mut words = Vec::new();
    let mut begun: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.char_indices().skip_while(|(at, _)| *at < from);
    while let Some((at, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => {
                if let Some(start) = begun.take() {
                    words.push(word(text, start, at));
                }
                continue;
            }
            None if character == '\'' || character == '"' => quote = Some(character),
            Some(open) if open == character => quote = None,
            _ => {}
        }
        begun.get_or_insert(at);
        if character == escape && quote != Some('\'') {
            characters.next();
        }
    }
    if let Some(start) = begun {
        words.push(word(text, start, text.len()));
    }
    words
}

fn word(text: &str, start: usize, end: usize) -> Word {
    Word {
        text: text[start..end].to_owned(),
        start,
        end,
    }
}

/// The instruction's name, and where what follows begins.
pub fn keyword(line: &str) -> (&str, usize) {
    let end = line.find(char::is_whitespace).unwrap_or(line.len());
    let rest = line[end..].trim_start();
    (&line[..end], line.len() - rest.len())
}

/// The options `--name=value` at `from`, and where what follows begins.
pub fn options(line: &str, from: usize, escape: char) -> (Vec<Word>, usize) {
    let mut found = Vec::new();
    for word in split(line, from, escape) {
        if word.text == "--" {
            let rest = line[word.end..].trim_start();
            return (found, line.len() - rest.len());
        }
        if !word.text.starts_with("--") {
            return (found, word.start);
        }
        found.push(word);
    }
    (found, line.len())
}

/// `["a", "b"]`, if that is what it is.
pub fn json(text: &str) -> Option<Vec<String>> {
    text.trim_start()
        .starts_with('[')
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

/// `<<NAME` in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeredocWord {
    /// What ends it.
    pub name: String,
    /// Whether its content is expanded.
    pub expand: bool,
    /// `<<-`.
    pub strip_tabs: bool,
    /// What stands before `<<`.
    pub descriptor: String,
    /// Where it begins.
    pub start: usize,
    /// Where it has ended.
    pub end: usize,
}

/// The heredocs that an instruction begins; only some can.
pub fn heredocs(line: &str, escape: char) -> Vec<HeredocWord> {
    let (mut name, mut at) = keyword(line);
    if name.eq_ignore_ascii_case("ONBUILD") {
        let (inner, after) = keyword(&line[at..]);
        (name, at) = (inner, at + after);
    }
    let can = ["RUN", "COPY", "ADD"]
        .iter()
        .any(|it| name.eq_ignore_ascii_case(it));
    if !can {
        return Vec::new();
    }
    let (_, at) = options(line, at, escape);
    if json(&line[at..]).is_some() {
        return Vec::new();
    }
    split(line, at, escape)
        .into_iter()
        .filter_map(heredoc)
        .collect()
}

fn heredoc(word: Word) -> Option<HeredocWord> {
    let digits = word.text.find(|c: char| !c.is_ascii_digit())?;
    let (descriptor, rest) = word.text.split_at(digits);
    let rest = rest.strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let quoted = rest.contains(['\'', '"']);
    let name: String = rest.chars().filter(|c| !matches!(c, '\'' | '"')).collect();
    let plain =
        |c: char| !c.is_whitespace() && !matches!(c, '<' | '>' | '&' | '|' | ';' | '(' | ')');
    if name.is_empty() || !name.chars().all(plain) {
        return None;
    }
    Some(HeredocWord {
        name,
        expand: !quoted,
        strip_tabs,
        descriptor: descriptor.to_owned(),
        start: word.start,
        end: word.end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(text: &str) -> Vec<String> {
        split(text, 0, '\\').into_iter().map(|w| w.text).collect()
    }

    #[test]
    fn words_keep_their_quotes() {
        assert_eq!(
            plain(r#"a="b c" d\ e 'f g'h  i"#),
            [r#"a="b c""#, r"d\ e", "'f g'h", "i"]
        );
        assert_eq!(plain(r#""a\"b c" '\' x"#), [r#""a\"b c""#, r"'\'", "x"]);
        assert_eq!(plain("  "), [""; 0]);
        assert_eq!(plain("\"open end"), ["\"open end"]);
    }

    #[test]
    fn options_end_where_words_begin() {
        let line = "COPY --from=a --chown=\"b c\" x --y z";
        let (found, at) = options(line, 5, '\\');
        let found: Vec<_> = found.iter().map(|w| w.text.as_str()).collect();
        assert_eq!(found, ["--from=a", "--chown=\"b c\""]);
        assert_eq!(&line[at..], "x --y z");
        assert_eq!(options("RUN -- --x", 4, '\\').1, 7);
        assert_eq!(options("RUN --x", 4, '\\').1, 7);
    }

    proptest! {
        #[test]
        fn words_are_pieces_of_the_text(text in "[ a-c'\"\\\\é<-]{0,40}", from in 0usize..5) {
            let found = split(&text, from, '\\');
            for word in &found {
                prop_assert_eq!(&text[word.start..word.end], word.text.as_str());
            }
            for pair in found.windows(2) {
                prop_assert!(pair[0].end < pair[1].start + 1);
            }
        }
    }
}
