//! Cuts a template into text and the tokens of its actions.

use super::TemplateError;

/// One piece of an action, or the text between actions.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// Text outside of actions.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `.Name`, without the dot; an empty name is the dot alone.
    Field(String),
    /// `$name`, without the dollar.
    Variable(String),
    /// A word: a keyword, a function or a constant.
    Word(String),
    /// A string or character constant.
    Quoted(String),
    /// A number.
    Number(serde_json::Number),
    /// `|`
    Pipe,
    /// `(`
    Left,
    /// `)`
    Right,
    /// `:=` or `=`
    Assign,
    /// `,`
    Comma,
    /// White space, which ends operands.
    Space,
}

/// A token and the line it is on.
pub type Placed = (Token, usize);

/// Cuts `template` into tokens.
pub fn lex(template: &str) -> Result<Vec<Placed>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = template;
    let mut line = 1;
    let mut trim_next = false;
    loop {
        let (text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        let lines = text.matches('\n').count();
        let mut kept = if trim_next { text.trim_start() } else { text };
        let trims_before = action.is_some_and(|action| {
            action
                .strip_prefix('-')
                .is_some_and(|after| after.starts_with(char::is_whitespace))
        });
        if trims_before {
            kept = kept.trim_end();
        }
        if !kept.is_empty() {
            tokens.push((Token::Text(kept.to_owned()), line));
        }
        line += lines;
        let Some(action) = action else {
            return Ok(tokens);
        };
        let action = if trims_before {
            action.get(1..).unwrap_or_default()
        } else {
            action
        };
        let mut lexer = Lexer {
            rest: action,
            line,
            tokens: &mut tokens,
        };
        trim_next = lexer.action()?;
        (rest, line) = (lexer.rest, lexer.line);
    }
}

struct Lexer<'a, 'b> {
    rest: &'a str,
    line: usize,
    tokens: &'b mut Vec<Placed>,
}

impl Lexer<'_, '_> {
    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError::Parse {
            line: self.line,
            problem: problem.into(),
        })
    }

    /// Everything up to and with `}}`; tells whether the text behind it is to be trimmed.
    fn action(&mut self) -> Result<bool, TemplateError> {
        if self.rest.trim_start().starts_with("/*") {
            return self.comment();
        }
        self.tokens.push((Token::Open, self.line));
        loop {
            let Some(next) = self.rest.chars().next() else {
                return self.fail("unclosed action");
            };
            if self.eat("}}") {
                self.tokens.push((Token::Close, self.line));
                return Ok(false);
            }
            if next.is_whitespace() {
                let word = self.rest.trim_start();
                if word.strip_prefix("-}}").is_some() {
                    self.advance(self.rest.len() - word.len() + 3);
                    self.tokens.push((Token::Close, self.line));
                    return Ok(true);
                }
                self.advance(self.rest.len() - word.len());
                self.tokens.push((Token::Space, self.line));
                continue;
            }
            let token = self.token(next)?;
            self.tokens.push((token, self.line));
        }
    }

    fn comment(&mut self) -> Result<bool, TemplateError> {
        let Some(end) = self.rest.find("*/") else {
            return self.fail("unclosed comment");
        };
        self.advance(end + 2);
        if self.eat("}}") {
            return Ok(false);
        }
        let after = self.rest.trim_start();
        if after.len() < self.rest.len() && after.starts_with("-}}") {
            self.advance(self.rest.len() - after.len() + 3);
            return Ok(true);
        }
        self.fail("comment ends before closing delimiter")
    }

    fn token(&mut self, next: char) -> Result<Token, TemplateError> {
        let simple = [
            (":=", Token::Assign),
            ("=", Token::Assign),
            ("|", Token::Pipe),
            ("(", Token::Left),
            (")", Token::Right),
            (",", Token::Comma),
        ];
        for (text, token) in simple {
            if self.eat(text) {
                return Ok(token);
            }
        }
        match next {
            '"' | '\'' => self.quoted(next),
            '`' => self.raw(),
            '$' => {
                self.advance(1);
                Ok(Token::Variable(self.name()))
            }
            '.' if !self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.advance(1);
                Ok(Token::Field(self.name()))
            }
            '0'..='9' | '-' | '+' | '.' => self.number(),
            c if c.is_alphabetic() || c == '_' => Ok(Token::Word(self.name())),
            c => self.fail(format!("unexpected {c:?} in command")),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Token, TemplateError> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '\n' => break,
                c if c == quote => {
                    self.advance(at + 1);
                    return Ok(Token::Quoted(text));
                }
                '\\' => match characters.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c @ ('\\' | '"' | '\'')) => text.push(c),
                    _ => return self.fail("invalid syntax in a quoted string"),
                },
                c => text.push(c),
            }
        }
        self.fail("unterminated quoted string")
    }

    fn raw(&mut self) -> Result<Token, TemplateError> {
        let inner = self.rest.get(1..).unwrap_or_default();
        let Some(end) = inner.find('`') else {
            return self.fail("unterminated raw quoted string");
        };
        let text = inner[..end].to_owned();
        self.advance(end + 2);
        Ok(Token::Quoted(text))
    }

    fn number(&mut self) -> Result<Token, TemplateError> {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '+' | '-' | '_'))
            .unwrap_or(self.rest.len());
        let text = self.rest[..end].to_owned();
        self.advance(end);
        let whole = text.parse::<i64>().ok().map(serde_json::Number::from);
        let number = whole.or_else(|| serde_json::Number::from_f64(text.parse().ok()?));
        match number {
            Some(number) => Ok(Token::Number(number)),
            None => self.fail(format!("bad number syntax: {text:?}")),
        }
    }

    fn name(&mut self) -> String {
        let end = self
            .rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(self.rest.len());
        let name = self.rest[..end].to_owned();
        self.advance(end);
        name
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest.starts_with(text);
        if found {
            self.advance(text.len());
        }
        found
    }

    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }
}
