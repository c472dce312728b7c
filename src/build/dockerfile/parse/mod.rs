//! From a line to an instruction.

mod grammar;

use crate::build::dockerfile::instruction::{
    Command, Copy, Dockerfile, Health, Instruction, NAMES, Network, Run, Stage, Step,
};
use crate::build::dockerfile::lines::{self, Line};
use crate::build::dockerfile::source::{Mistake, Source, Span, suggest};
use crate::build::dockerfile::words::{self, Word};

/// The most stages and instructions, each.
const MAX_STEPS: usize = 10_000;

/// Reads a Dockerfile.
pub fn parse(source: &Source) -> Result<Dockerfile, Mistake> {
    let (directives, lines) = lines::split(source)?;
    let mut file = Dockerfile {
        arguments: Vec::new(),
        stages: Vec::new(),
        escape: directives.escape,
        syntax: directives.syntax,
    };
    if lines.len() > MAX_STEPS {
        let message = format!("more than {MAX_STEPS} instructions");
        return Err(source.mistake(lines[MAX_STEPS].whole(), message));
    }
    for line in &lines {
        let parser = Parser::new(source, line, directives.escape)?;
        if parser.name == "FROM" {
            let stage = parser.stage()?;
            let same = |other: &Stage| stage.name.is_some() && other.name == stage.name;
            if file.stages.iter().any(same) {
                let name = stage.name.unwrap_or_default();
                let message = format!("there is a stage {name:?} already");
                return Err(source.mistake(stage.span, message));
            }
            file.stages.push(stage);
            continue;
        }
        let step = parser.step()?;
        match (file.stages.last_mut(), &step.instruction) {
            (Some(stage), _) => stage.steps.push(step),
            (None, Instruction::Arg(_)) => file.arguments.push(step),
            (None, _) => {
                let message = format!(
                    "{} before the first FROM: only ARG can stand there",
                    parser.name
                );
                return Err(source.mistake(parser.name_span(), message));
            }
        }
    }
    if file.stages.is_empty() {
        let end = source.text.len();
        let what = match source.text.trim().is_empty() {
            true => "the Dockerfile is empty",
            false => "there is no FROM: a Dockerfile begins with its base image",
        };
        return Err(source.mistake(Span::new(end, end), what));
    }
    Ok(file)
}

/// Reads one instruction, as `ONBUILD` has it.
pub fn instruction(source: &Source, escape: char) -> Result<Step, Mistake> {
    let (_, lines) = lines::split(source)?;
    match lines.as_slice() {
        [line] => Parser::new(source, line, escape)?.step(),
        _ => Err(source.mistake(
            Span::new(0, source.text.len()),
            "this is not one instruction",
        )),
    }
}

/// An option: where it stands, its name and its value.
type Named<'a> = (&'a Word, &'static str, Option<String>);

struct Parser<'a> {
    source: &'a Source,
    line: &'a Line,
    escape: char,
    /// In upper case.
    name: &'static str,
    options: Vec<Word>,
    /// Where the arguments begin.
    at: usize,
}

impl<'a> Parser<'a> {
    fn new(source: &'a Source, line: &'a Line, escape: char) -> Result<Self, Mistake> {
        let (word, at) = words::keyword(&line.text);
        let known = NAMES.iter().find(|name| word.eq_ignore_ascii_case(name));
        let Some(name) = known else {
            let shown: String = word.chars().take(40).collect();
            let hint = suggest(word, &NAMES)
                .map_or_else(String::new, |it| format!(" (did you mean {it}?)"));
            let message = format!("unknown instruction: {shown}{hint}");
            return Err(source.mistake(line.span(0, word.len()), message));
        };
        let takes_options = matches!(*name, "FROM" | "RUN" | "COPY" | "ADD" | "HEALTHCHECK");
        let (options, at) = match takes_options {
            true => words::options(&line.text, at, escape),
            false => (Vec::new(), at),
        };
        Ok(Self {
            source,
            line,
            escape,
            name,
            options,
            at,
        })
    }

    fn name_span(&self) -> Span {
        self.line.span(0, self.name.len())
    }

    /// Where the arguments stand.
    fn arguments_span(&self) -> Span {
        match self.rest().is_empty() {
            true => self.name_span(),
            false => self.line.span(self.at, self.line.text.len()),
        }
    }

    fn rest(&self) -> &'a str {
        self.line.text.get(self.at..).unwrap_or_default().trim()
    }

    fn words(&self) -> Vec<Word> {
        words::split(&self.line.text, self.at, self.escape)
    }

    fn wrong<T>(&self, message: impl Into<String>) -> Result<T, Mistake> {
        Err(self.source.mistake(self.arguments_span(), message))
    }

    fn wrong_word<T>(&self, word: &Word, message: impl Into<String>) -> Result<T, Mistake> {
        Err(self
            .source
            .mistake(self.line.span(word.start, word.end), message))
    }

    fn some(&self) -> Result<&'a str, Mistake> {
        match self.rest() {
            "" => self.wrong(format!("{} requires at least one argument", self.name)),
            rest => Ok(rest),
        }
    }

    fn text(&self) -> String {
        let after = self.line.text.get(self.name.len()..).unwrap_or_default();
        format!("{}{after}", self.name)
    }

    fn stage(&self) -> Result<Stage, Mistake> {
        let words = self.words();
        let (base, name) = match words.as_slice() {
            [base] => (base, None),
            [base, word, name] if word.text.eq_ignore_ascii_case("as") => (base, Some(name)),
            [] => return self.wrong("FROM requires an image, a stage or scratch"),
            _ => return self.wrong("FROM takes IMAGE or IMAGE AS NAME"),
        };
        if let Some(name) = name {
            let lower = name.text.to_ascii_lowercase();
            let good = lower.starts_with(|c: char| c.is_ascii_lowercase())
                && lower
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
            if !good {
                let message = format!(
                    "invalid name {:?} for a stage, use letters, digits, _ - and .",
                    name.text
                );
                return self.wrong_word(name, message);
            }
        }
        let mut platform = None;
        for (option, name, value) in self.named_options(&["platform"])? {
            platform = Some(self.value(option, name, value)?);
        }
        Ok(Stage {
            base: base.text.clone(),
            name: name.map(|name| name.text.to_ascii_lowercase()),
            platform,
            span: self.line.span(base.start, base.end),
            text: self.text(),
            steps: Vec::new(),
        })
    }

    fn step(&self) -> Result<Step, Mistake> {
        Ok(Step {
            instruction: self.parse()?,
            text: self.text(),
            span: self.line.whole(),
        })
    }

    fn parse(&self) -> Result<Instruction, Mistake> {
        Ok(match self.name {
            "RUN" => Instruction::Run(self.run()?),
            "COPY" => Instruction::Copy(self.copy()?),
            "ADD" => Instruction::Add(self.copy()?),
            "ENV" => Instruction::Env(self.pairs()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "ARG" => Instruction::Arg(self.arguments()?),
            "MAINTAINER" => Instruction::Maintainer(self.some()?.to_owned()),
            "EXPOSE" => {
                self.some()?;
                Instruction::Expose(self.words().into_iter().map(|word| word.text).collect())
            }
            "VOLUME" => Instruction::Volume(self.list()?),
            "WORKDIR" => Instruction::Workdir(self.single()?),
            "USER" => Instruction::User(self.single()?),
            "STOPSIGNAL" => Instruction::Stopsignal(self.single()?),
            "CMD" => Instruction::Cmd(self.command()?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command()?),
            "SHELL" => match words::json(self.some()?) {
                Some(words) if !words.is_empty() => Instruction::Shell(words),
                _ => {
                    return self
                        .wrong("SHELL requires a JSON list, as in SHELL [\"/bin/sh\", \"-c\"]");
                }
            },
            "HEALTHCHECK" => Instruction::Healthcheck(self.health()?),
            "ONBUILD" => Instruction::Onbuild(self.onbuild()?),
            _ => return self.wrong("a second FROM cannot stand here"),
        })
    }

    /// One argument; spaces in it count.
    fn single(&self) -> Result<String, Mistake> {
        let rest = self.some()?;
        if self.name != "WORKDIR" && self.words().len() != 1 {
            return self.wrong(format!("{} requires exactly one argument", self.name));
        }
        Ok(rest.to_owned())
    }

    fn list(&self) -> Result<Vec<String>, Mistake> {
        let rest = self.some()?;
        let found = words::json(rest)
            .unwrap_or_else(|| self.words().into_iter().map(|word| word.text).collect());
        if found.is_empty() || found.iter().any(|it| it.trim().is_empty()) {
            return self.wrong(format!("{} requires paths that are not empty", self.name));
        }
        Ok(found)
    }

    /// A JSON list, or a line for the shell; both can be empty.
    fn command(&self) -> Result<Command, Mistake> {
        Ok(match words::json(self.rest()) {
            Some(words) => Command::Exec(words),
            None => Command::Shell(self.rest().to_owned()),
        })
    }

    fn pairs(&self) -> Result<Vec<(String, String)>, Mistake> {
        self.some()?;
        let words = self.words();
        let Some(first) = words.first() else {
            return self.wrong(format!("{} requires at least one argument", self.name));
        };
        if !first.text.contains('=') {
            // The old form: NAME and the whole rest.
            let value = self.line.text.get(first.end..).unwrap_or_default().trim();
            if value.is_empty() {
                return self.wrong(format!("{} must have two arguments, NAME=value", self.name));
            }
            return Ok(vec![(first.text.clone(), value.to_owned())]);
        }
        let mut pairs = Vec::new();
        for word in &words {
            match word.text.split_once('=') {
                Some(("", _)) => return self.wrong_word(word, "a name is missing before ="),
                Some((name, value)) => pairs.push((name.to_owned(), value.to_owned())),
                None => {
                    let message = format!(
                        "{} must be NAME=value; quote a value with spaces in it",
                        word.text
                    );
                    return self.wrong_word(word, message);
                }
            }
        }
        Ok(pairs)
    }

    fn arguments(&self) -> Result<Vec<(String, Option<String>)>, Mistake> {
        self.some()?;
        let mut found = Vec::new();
        for word in self.words() {
            let (name, value) = match word.text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.text.as_str(), None),
            };
            if name.is_empty() || name.contains(['"', '\'', '$']) {
                return self.wrong_word(
                    &word,
                    "ARG requires a name, as in ARG NAME or ARG NAME=default",
                );
            }
            found.push((name.to_owned(), value));
        }
        Ok(found)
    }

    /// The options with their names, which must be among `known`, and values.
    fn named_options(&self, known: &[&'static str]) -> Result<Vec<Named<'_>>, Mistake> {
        let mut found = Vec::new();
        for option in &self.options {
            let bare = option.text.strip_prefix("--").unwrap_or_default();
            let (name, value) = match bare.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (bare, None),
            };
            let Some(name) = known.iter().find(|it| **it == name) else {
                let hint = suggest(name, known)
                    .map_or_else(String::new, |it| format!(" (did you mean --{it}?)"));
                let message = format!("unknown flag: --{name}{hint}");
                return self.wrong_word(option, message);
            };
            let repeatable = matches!(*name, "mount" | "exclude");
            if !repeatable && found.iter().any(|(_, other, _)| other == name) {
                return self.wrong_word(option, format!("--{name} can be given only once"));
            }
            found.push((option, *name, value.map(unquote)));
        }
        Ok(found)
    }

    fn value(&self, option: &Word, name: &str, value: Option<String>) -> Result<String, Mistake> {
        match value {
            Some(value) if !value.is_empty() => Ok(value),
            _ => self.wrong_word(
                option,
                format!("--{name} requires a value, as in --{name}=…"),
            ),
        }
    }

    fn truth(&self, option: &Word, name: &str, value: Option<String>) -> Result<bool, Mistake> {
        match value.as_deref() {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => self.wrong_word(option, format!("--{name} is true or false")),
        }
    }
}

/// A value without quotes around it.
fn unquote(value: &str) -> String {
    for quote in ['"', '\''] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|it| it.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner.to_owned();
        }
    }
    value.to_owned()
}
