//! The instructions with a grammar of their own: RUN, COPY and ADD, ONBUILD, HEALTHCHECK.

use super::*;

impl Parser<'_> {
    pub(super) fn run(&self) -> Result<Run, Mistake> {
        let mut run = Run {
            command: self.command()?,
            heredocs: self.line.heredocs.clone(),
            mounts: Vec::new(),
            network: Network::Default,
        };
        for (option, name, value) in
            self.named_options(&["mount", "network", "security", "device"])?
        {
            let value = self.value(option, name, value)?;
            match (name, value.as_str()) {
                ("mount", _) => run.mounts.push(value),
                ("network", "default") => run.network = Network::Default,
                ("network", "none") => run.network = Network::None,
                ("network", "host") => run.network = Network::Host,
                ("network", _) => {
                    return self.wrong_word(option, "--network is default, none or host");
                }
                ("security", "sandbox") => {}
                ("security", _) => {
                    return self.wrong_word(option, "--security=insecure is not there: a RUN step has a machine of its own, and no more rights in it than a container");
                }
                _ => return self.wrong_word(option, format!("--{name} is not there yet")),
            }
        }
        self.some()?;
        Ok(run)
    }

    pub(super) fn copy(&self) -> Result<Copy, Mistake> {
        const COPY: [&str; 6] = ["from", "chown", "chmod", "link", "parents", "exclude"];
        const ADD: [&str; 7] = [
            "chown",
            "chmod",
            "link",
            "exclude",
            "checksum",
            "unpack",
            "keep-git-dir",
        ];
        let mut copy = Copy::default();
        let known: &[&'static str] = if self.name == "COPY" { &COPY } else { &ADD };
        for (option, name, value) in self.named_options(known)? {
            match name {
                "link" => copy.link = self.truth(option, name, value)?,
                "parents" => copy.parents = self.truth(option, name, value)?,
                "keep-git-dir" => copy.keep_git_dir = self.truth(option, name, value)?,
                "unpack" => copy.unpack = Some(self.truth(option, name, value)?),
                "exclude" => copy.exclude.push(self.value(option, name, value)?),
                _ => {
                    let value = Some(self.value(option, name, value)?);
                    match name {
                        "from" => copy.from = value,
                        "chown" => copy.chown = value,
                        "chmod" => copy.chmod = value,
                        _ => copy.checksum = value,
                    }
                }
            }
        }
        let mut words = match words::json(self.rest()) {
            Some(words) => words,
            None => self.words().into_iter().map(|word| word.text).collect(),
        };
        let Some(destination) = words.pop().filter(|_| !words.is_empty()) else {
            return self.wrong(format!(
                "{} requires at least two arguments, a source and a destination",
                self.name
            ));
        };
        // What stands below has its word among the sources.
        words.retain(|word| {
            words::heredocs(&format!("COPY {word}"), self.escape).is_empty()
                || copy_json(self.rest())
        });
        copy.heredocs = self.line.heredocs.clone();
        copy.sources = words;
        copy.destination = destination;
        Ok(copy)
    }

    pub(super) fn onbuild(&self) -> Result<String, Mistake> {
        let rest = self.some()?;
        let inner = Source {
            name: self.source.name.clone(),
            text: rest.to_owned(),
        };
        let (word, _) = words::keyword(rest);
        let upper = word.to_ascii_uppercase();
        if ["ONBUILD", "FROM", "MAINTAINER"].contains(&upper.as_str()) {
            return self.wrong(format!("{upper} isn't allowed as an ONBUILD trigger"));
        }
        let mut text = rest.to_owned();
        for heredoc in &self.line.heredocs {
            text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
        }
        if let Err(mistake) = instruction(
            &Source {
                text: text.clone(),
                ..inner
            },
            self.escape,
        ) {
            return self.wrong(mistake.message);
        }
        Ok(text)
    }

    pub(super) fn health(&self) -> Result<Option<Health>, Mistake> {
        let rest = self.some()?;
        let (word, at) = words::keyword(rest);
        let command = rest.get(at..).unwrap_or_default().trim();
        let mut fields = Vec::new();
        let known = [
            "interval",
            "timeout",
            "start-period",
            "start-interval",
            "retries",
        ];
        for (option, name, value) in self.named_options(&known)? {
            let value = self.value(option, name, value)?;
            let key = match name {
                "interval" => "Interval",
                "timeout" => "Timeout",
                "start-period" => "StartPeriod",
                "start-interval" => "StartInterval",
                _ => match value.parse::<i64>() {
                    Ok(count) if count >= 0 => {
                        fields.push(("Retries", count));
                        continue;
                    }
                    _ => return self.wrong_word(option, "--retries is a number, 0 or more"),
                },
            };
            match duration(&value) {
                Some(time) => fields.push((key, time)),
                None => {
                    let message = format!(
                        "invalid duration {value:?}, use for example 30s, 1m30s or 500ms, 1ms or more"
                    );
                    return self.wrong_word(option, message);
                }
            }
        }
        match word.to_ascii_uppercase().as_str() {
            "NONE" if command.is_empty() && fields.is_empty() => Ok(None),
            "NONE" => self.wrong("HEALTHCHECK NONE takes no arguments"),
            "CMD" if command.is_empty() => self.wrong("HEALTHCHECK CMD requires a command"),
            "CMD" => Ok(Some(Health {
                command: match words::json(command) {
                    Some(words) => Command::Exec(words),
                    None => Command::Shell(command.to_owned()),
                },
                fields,
            })),
            _ => self.wrong(format!(
                "unknown type {word:?} in HEALTHCHECK, it is NONE or CMD and a command"
            )),
        }
    }
}

fn copy_json(rest: &str) -> bool {
    words::json(rest).is_some()
}

/// Nanoseconds; 0, or a millisecond and more.
fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let span: jiff::SignedDuration = text.parse().ok()?;
    let nanoseconds = i64::try_from(span.as_nanos()).ok()?;
    (nanoseconds == 0 || nanoseconds >= 1_000_000).then_some(nanoseconds)
}
