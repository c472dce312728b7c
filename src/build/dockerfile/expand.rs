//! Variables in an instruction's words: `$NAME`, `${NAME}` and what can stand in the braces.
//!
//! Quotes and escapes go away in the same pass, as in a shell, so a quoted variable stays whole.

/// Finds a variable's value.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How deep `${A:-${B:-…}}` may be.
const MAX_DEPTH: usize = 32;
/// The longest result.
const MAX_RESULT: usize = 4 << 20;
const TOO_LONG: &str = "the result is too long, the limit is 4 MiB";

/// Replaces variables in `word` and takes quotes away.
pub fn word(word: &str, escape: char, lookup: Lookup<'_>) -> Result<String, String> {
    let mut expander = Expander {
        text: word.chars().collect(),
        at: 0,
        escape,
        lookup,
        quotes: true,
        depth: 0,
    };
    expander.until(None)
}

/// Replaces variables in a text in which quotes mean nothing: a heredoc.
pub fn text(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String, String> {
    let mut expander = Expander {
        text: text.chars().collect(),
        at: 0,
        escape,
        lookup,
        quotes: false,
        depth: 0,
    };
    expander.until(None)
}

struct Expander<'a> {
    text: Vec<char>,
    at: usize,
    escape: char,
    lookup: Lookup<'a>,
    quotes: bool,
    depth: usize,
}

impl Expander<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Reads on to `end`, which is taken too, or to the text's end.
    fn until(&mut self, end: Option<char>) -> Result<String, String> {
        let mut out = String::new();
        while let Some(next) = self.take() {
            if Some(next) == end {
                return Ok(out);
            }
            match next {
                '\'' if self.quotes => self.single(&mut out)?,
                '"' if self.quotes => self.double(&mut out)?,
                '$' => out.push_str(&self.variable()?),
                c if c == self.escape => match self.take() {
                    // In a heredoc only what would mean something loses its escape.
                    Some(c) if !self.quotes && c != '$' && c != self.escape => {
                        out.extend([self.escape, c]);
                    }
                    Some(c) => out.push(c),
                    None if self.quotes => {}
                    None => out.push(self.escape),
                },
                c => out.push(c),
            }
            if out.len() > MAX_RESULT {
                return Err(TOO_LONG.to_owned());
            }
        }
        match end {
            None => Ok(out),
            Some(_) => Err("${ without its }".to_owned()),
        }
    }

    fn single(&mut self, out: &mut String) -> Result<(), String> {
        loop {
            match self.take() {
                Some('\'') => return Ok(()),
                Some(c) => out.push(c),
                None => return Err("a single quote is not closed".to_owned()),
            }
        }
    }

    fn double(&mut self, out: &mut String) -> Result<(), String> {
        loop {
            match self.take() {
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.variable()?),
                Some(c) if c == self.escape => match self.take() {
                    Some(c) if c == '"' || c == '$' || c == self.escape => out.push(c),
                    Some(c) => out.extend([self.escape, c]),
                    None => return Err("a double quote is not closed".to_owned()),
                },
                Some(c) => out.push(c),
                None => return Err("a double quote is not closed".to_owned()),
            }
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            let digit = c.is_ascii_digit();
            // A number is one digit, as in a shell.
            let fits = c.is_ascii_alphanumeric() || c == '_';
            if !fits || (!name.is_empty() && name.starts_with(|c: char| c.is_ascii_digit())) {
                break;
            }
            name.push(c);
            self.at += 1;
            if digit && name.len() == 1 {
                break;
            }
        }
        name
    }

    /// What follows a `$`.
    fn variable(&mut self) -> Result<String, String> {
        if !self.eat('{') {
            let name = self.name();
            return Ok(match name.is_empty() {
                true => "$".to_owned(),
                false => (self.lookup)(&name).unwrap_or_default(),
            });
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} variables in each other"));
        }
        let name = self.name();
        if name.is_empty() {
            return Err("bad substitution: ${ without a name".to_owned());
        }
        let value = (self.lookup)(&name);
        let result = self.modified(&name, value);
        self.depth -= 1;
        result
    }

    fn modified(&mut self, name: &str, value: Option<String>) -> Result<String, String> {
        let operator = self.take().ok_or("${ without its }")?;
        let colon = operator == ':';
        let operator = match colon {
            true => self.take().ok_or("${ without its }")?,
            false => operator,
        };
        let is_set = value
            .as_ref()
            .is_some_and(|value| !colon || !value.is_empty());
        let value = value.unwrap_or_default();
        match operator {
            '}' if !colon => Ok(value),
            '-' | '+' | '?' => {
                let other = self.until(Some('}'))?;
                Ok(match (operator, is_set) {
                    ('-', true) => value,
                    ('-', false) | ('+', true) => other,
                    ('+', false) => String::new(),
                    (_, true) => value,
                    (_, false) => {
                        let why = match other.as_str() {
                            "" => "it is not set",
                            why => why,
                        };
                        return Err(format!("{name}: {why}"));
                    }
                })
            }
            '#' if !colon => {
                let longest = self.eat('#');
                let pattern = self.until(Some('}'))?;
                cut(&value, &pattern, longest, false)
            }
            '%' if !colon => {
                let longest = self.eat('%');
                let pattern = self.until(Some('}'))?;
                cut(&value, &pattern, longest, true)
            }
            '/' if !colon => {
                let all = self.eat('/');
                let pattern = self.slash_part()?;
                let with = match self.text.get(self.at.wrapping_sub(1)) {
                    Some('/') => self.until(Some('}'))?,
                    _ => String::new(),
                };
                replace(&value, &pattern, &with, all)
            }
            other => {
                let colon = if colon { ":" } else { "" };
                Err(format!(
                    "unsupported modifier ({colon}{other}) in substitution of {name}"
                ))
            }
        }
    }

    /// The pattern of `${NAME/pattern/…}`, up to the slash or the closing brace.
    fn slash_part(&mut self) -> Result<String, String> {
        let mut pattern = String::new();
        loop {
            match self.take() {
                Some('/' | '}') => return Ok(pattern),
                Some(c) if c == self.escape && self.peek() == Some('/') => {
                    self.at += 1;
                    pattern.push('/');
                }
                Some('$') => pattern.push_str(&self.variable()?),
                Some(c) => pattern.push(c),
                None => return Err("${ without its }".to_owned()),
            }
        }
    }
}

/// The value without the part at its begin, or end, that the pattern matches.
fn cut(value: &str, pattern: &str, longest: bool, at_end: bool) -> Result<String, String> {
    let mut characters: Vec<char> = value.chars().collect();
    let mut pattern = Glob::new(pattern)?;
    if at_end {
        characters.reverse();
        pattern.0.reverse();
    }
    let length = pattern.prefix(&characters, longest)?.unwrap_or(0);
    characters.drain(..length);
    if at_end {
        characters.reverse();
    }
    Ok(characters.into_iter().collect())
}

/// The value with the pattern's first match, or all, replaced; matches are as long as can be.
fn replace(value: &str, pattern: &str, with: &str, all: bool) -> Result<String, String> {
    let characters: Vec<char> = value.chars().collect();
    let pattern = Glob::new(pattern)?;
    let mut out = String::new();
    let mut at = 0;
    while at < characters.len() {
        match pattern.prefix(&characters[at..], true)? {
            Some(length) if length > 0 => {
                out.push_str(with);
                at += length;
                if !all {
                    break;
                }
            }
            _ => {
                out.push(characters[at]);
                at += 1;
            }
        }
        if out.len() > MAX_RESULT {
            return Err(TOO_LONG.to_owned());
        }
    }
    out.extend(&characters[at..]);
    Ok(out)
}

/// The longest pattern, in characters.
const MAX_PATTERN: usize = 256;
/// The longest value that a pattern with a star is looked for in, in characters: the time that
/// it takes grows with the square.
const MAX_VALUE: usize = 4 << 10;

/// A shell's pattern of `*`, `?` and `\`.
struct Glob(Vec<Part>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Just(char),
}

impl Glob {
    fn new(pattern: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut characters = pattern.chars();
        while let Some(c) = characters.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => Part::Just(characters.next().unwrap_or('\\')),
                c => Part::Just(c),
            });
        }
        match parts.len() > MAX_PATTERN {
            true => Err(format!(
                "the pattern is too long, the limit is {MAX_PATTERN} characters"
            )),
            false => Ok(Self(parts)),
        }
    }

    /// How much of the text's begin it matches: the most or the least.
    fn prefix(&self, text: &[char], longest: bool) -> Result<Option<usize>, String> {
        if text.len() > MAX_VALUE && self.0.contains(&Part::Any) {
            return Err(format!(
                "the value is too long for a pattern, the limit is {MAX_VALUE} characters"
            ));
        }
        // All places of the pattern that the text so far can have come to.
        let mut places = vec![false; self.0.len() + 1];
        let mut next = places.clone();
        places[0] = true;
        self.pass_stars(&mut places);
        let mut found = None;
        for length in 0..=text.len() {
            if places[self.0.len()] {
                found = Some(length);
                if !longest {
                    break;
                }
            }
            let Some(c) = text.get(length).filter(|_| places.contains(&true)) else {
                break;
            };
            next.fill(false);
            for (at, part) in self.0.iter().enumerate().filter(|(at, _)| places[*at]) {
                match part {
                    Part::Any => next[at] = true,
                    Part::One => next[at + 1] = true,
                    Part::Just(wanted) => next[at + 1] |= wanted == c,
                }
            }
            self.pass_stars(&mut next);
            std::mem::swap(&mut places, &mut next);
        }
        Ok(found)
    }

    /// A star can also be nothing.
    fn pass_stars(&self, places: &mut [bool]) {
        for (at, part) in self.0.iter().enumerate() {
            if places[at] && *part == Part::Any {
                places[at + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(name: &str) -> Option<String> {
        let text = match name {
            "A" => "abc",
            "EMPTY" => "",
            "P" => "/usr/lib/x.tar.gz",
            "A_1" => "under",
            _ => return None,
        };
        Some(text.to_owned())
    }

    fn expanded(text: &str) -> String {
        word(text, '\\', &value).unwrap_or_else(|error| format!("error: {error}"))
    }

    #[test]
    fn variables_become_their_values() {
        for (text, result) in [
            ("$A", "abc"),
            ("${A}x", "abcx"),
            ("$A_1", "under"),
            ("$NONE-$A", "-abc"),
            ("$", "$"),
            ("a$/b", "a$/b"),
            ("\\$A", "$A"),
            ("'$A'", "$A"),
            ("\"$A b\"", "abc b"),
            ("\"\\$A \\x\"", "$A \\x"),
            ("a\\ b", "a b"),
            ("$1x", "x"),
            ("${A:-x}", "abc"),
            ("${NONE:-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${NONE-x}", "x"),
            ("${A:+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${NONE:-${NONE:-$A}}", "abc"),
            ("${NONE:-\"a b\"}", "a b"),
            ("${P#*/}", "usr/lib/x.tar.gz"),
            ("${P##*/}", "x.tar.gz"),
            ("${P%.*}", "/usr/lib/x.tar"),
            ("${P%%.*}", "/usr/lib/x"),
            ("${P/lib/bin}", "/usr/bin/x.tar.gz"),
            ("${P//\\//_}", "_usr_lib_x.tar.gz"),
            ("${A/b}", "ac"),
            ("${A/?/-}", "-bc"),
            ("${A?}", "abc"),
        ] {
            assert_eq!(expanded(text), result, "{text}");
        }
        for text in [
            "${",
            "${}",
            "${A",
            "${A:-",
            "${A:x}",
            "${NONE:?no}",
            "'a",
            "\"a",
            "${A,}",
            "${A:=b}",
        ] {
            assert!(expanded(text).starts_with("error: "), "{text}");
        }
        assert_eq!(expanded("${NONE:?please}"), "error: NONE: please");
    }

    #[test]
    fn long_values_are_not_searched_without_an_end() {
        let long = "a".repeat(MAX_VALUE + 1);
        assert!(cut(&long, "*b", true, false).is_err());
        assert!(replace(&long, "*b", "", true).is_err());
        let fitting = "a".repeat(MAX_VALUE);
        assert_eq!(replace(&fitting, "a*b", "", true).unwrap(), fitting);
        assert!(cut("a", &"?".repeat(MAX_PATTERN + 1), true, false).is_err());
    }

    #[test]
    fn quotes_mean_nothing_in_a_heredoc() {
        let result = text("'$A' \"x\" \\$A \\n", '\\', &value).unwrap();
        assert_eq!(result, "'abc' \"x\" $A \\n");
    }

    proptest! {
        #[test]
        fn any_word_is_expanded_without_a_panic(text in "[$A{}:?+#%/*'\"\\\\ é_-]{0,30}") {
            let _ = word(&text, '\\', &value);
            let _ = super::text(&text, '`', &value);
        }

        #[test]
        fn plain_text_stays(text in "[a-zA-Z0-9 /.,:=-]{0,40}") {
            prop_assert_eq!(word(&text, '\\', &value).unwrap(), text);
        }

        #[test]
        fn patterns_match_like_a_slow_matcher(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn slow(p: &[char], t: &[char]) -> bool {
                match (p.first(), t.first()) {
                    (None, None) => true,
                    (Some('*'), _) => slow(&p[1..], t) || (!t.is_empty() && slow(p, &t[1..])),
                    (Some(a), Some(b)) if *a == '?' || a == b => slow(&p[1..], &t[1..]),
                    _ => false,
                }
            }
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            let matching: Vec<usize> = (0..=t.len()).filter(|end| slow(&p, &t[..*end])).collect();
            let glob = Glob::new(&pattern).unwrap();
            prop_assert_eq!(glob.prefix(&t, true).unwrap(), matching.last().copied());
            prop_assert_eq!(glob.prefix(&t, false).unwrap(), matching.first().copied());
        }
    }
}
