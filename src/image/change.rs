//! Instructions that change an image's configuration: `--change` of `import` and `commit`.
//!
//! They are Dockerfile instructions, and only those that touch the configuration.

use serde_json::{Map, Value, json};

use super::error::ImageError;

/// Applies one instruction, as in `CMD ["sh"]` or `ENV A=1`, to the `config` of an image.
pub fn apply(config: &mut Map<String, Value>, instruction: &str) -> Result<(), ImageError> {
    let instruction = instruction.trim();
    let (word, rest) = instruction
        .split_once(char::is_whitespace)
        .unwrap_or((instruction, ""));
    let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
    let bad = |problem: &str| ImageError::Usage(format!("bad change {instruction:?}: {problem}"));
    if rest.is_empty() {
        return Err(bad(&format!("{word} requires at least one argument")));
    }
    match word.as_str() {
        "CMD" => set(config, "Cmd", command(rest)),
        "ENTRYPOINT" => set(config, "Entrypoint", command(rest)),
        "USER" => set(config, "User", rest.into()),
        "STOPSIGNAL" => set(config, "StopSignal", rest.into()),
        "WORKDIR" => {
            let before = config
                .get("WorkingDir")
                .and_then(Value::as_str)
                .unwrap_or("/");
            let path = std::path::Path::new("/").join(before).join(rest);
            let text = path.to_str().unwrap_or(rest).to_owned();
            set(config, "WorkingDir", text.into());
        }
        "ENV" => {
            for (name, value) in pairs(rest).map_err(|problem| bad(&problem))? {
                let prefix = format!("{name}=");
                let new = Value::from(format!("{name}={value}"));
                let same = |it: &&mut Value| it.as_str().is_some_and(|it| it.starts_with(&prefix));
                with_list(config, "Env", |env| match env.iter_mut().find(same) {
                    Some(known) => *known = new,
                    None => env.push(new),
                });
            }
        }
        "LABEL" => {
            for (name, value) in pairs(rest).map_err(|problem| bad(&problem))? {
                put(config, "Labels", name, value.into());
            }
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                if number.split('-').any(|part| part.parse::<u16>().is_err()) {
                    return Err(bad(&format!("invalid port {port:?}")));
                }
                let key = format!("{number}/{}", protocol.to_ascii_lowercase());
                put(config, "ExposedPorts", key, json!({}));
            }
        }
        "VOLUME" => {
            for path in list(rest) {
                put(config, "Volumes", path, json!({}));
            }
        }
        "ONBUILD" => with_list(config, "OnBuild", |list| list.push(rest.into())),
        "HEALTHCHECK" => {
            let health = healthcheck(rest).map_err(|problem| bad(&problem))?;
            set(config, "Healthcheck", health);
        }
        "SHELL" => match serde_json::from_str::<Vec<String>>(rest) {
            Ok(words) => set(config, "Shell", words.into()),
            Err(_) => return Err(bad("SHELL requires a JSON list")),
        },
        _ => return Err(bad(&format!("{word} is not a valid change command"))),
    }
    Ok(())
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

/// Changes the list under `key`, which is made when it is not there.
fn with_list(config: &mut Map<String, Value>, key: &str, change: impl FnOnce(&mut Vec<Value>)) {
    let slot = config.entry(key).or_insert(Value::Null);
    let mut items = match slot.take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    change(&mut items);
    *slot = Value::Array(items);
}

/// Puts an entry into the object under `outer`, which is made when it is not there.
fn put(config: &mut Map<String, Value>, outer: &str, key: String, value: Value) {
    let slot = config.entry(outer).or_insert(Value::Null);
    let mut map = match slot.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    map.insert(key, value);
    *slot = Value::Object(map);
}

/// A command: a JSON list, or a line for the shell.
fn command(text: &str) -> Value {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) => words.into(),
        Err(_) => json!(["/bin/sh", "-c", text]),
    }
}

/// Words: a JSON list, or separated by spaces.
fn list(text: &str) -> Vec<String> {
    serde_json::from_str::<Vec<String>>(text)
        .unwrap_or_else(|_| text.split_whitespace().map(str::to_owned).collect())
}

/// `NAME=value` pairs with quotes and backslashes, or the old form `NAME the whole rest`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{text:?} must have two arguments or be NAME=value"))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words(text)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(format!("{word:?} is not NAME=value")),
        })
        .collect()
}

/// Splits at spaces outside of quotes.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => {
                let next = characters.next().unwrap_or('\\');
                word.get_or_insert_default().push(next);
            }
            (c, Some(q)) if c == q => quote = None,
            (c @ ('"' | '\''), None) => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// `NONE`, or options and a command.
fn healthcheck(text: &str) -> Result<Value, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(json!({"Test": ["NONE"]}));
    }
    let mut health = Map::new();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option
            .split_once(char::is_whitespace)
            .unwrap_or((option, ""));
        let (name, value) = option.split_once('=').ok_or("an option needs a value")?;
        let (key, value) = match name {
            "interval" => ("Interval", nanoseconds(value)?),
            "timeout" => ("Timeout", nanoseconds(value)?),
            "start-period" => ("StartPeriod", nanoseconds(value)?),
            "start-interval" => ("StartInterval", nanoseconds(value)?),
            "retries" => (
                "Retries",
                value.parse::<i64>().map_err(|e| e.to_string())?.into(),
            ),
            other => return Err(format!("unknown option --{other}")),
        };
        health.insert(key.to_owned(), value);
        rest = after.trim_start();
    }
    let (word, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if !word.eq_ignore_ascii_case("cmd") || command.trim().is_empty() {
        return Err("it must be NONE, or CMD and a command".to_owned());
    }
    let test = match serde_json::from_str::<Vec<String>>(command.trim()) {
        Ok(mut words) => {
            words.insert(0, "CMD".to_owned());
            json!(words)
        }
        Err(_) => json!(["CMD-SHELL", command.trim()]),
    };
    health.insert("Test".to_owned(), test);
    Ok(Value::Object(health))
}

fn nanoseconds(text: &str) -> Result<Value, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|_| format!("bad duration {text:?}"))?;
    i64::try_from(span.as_nanos())
        .map(Value::from)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn applied(instructions: &[&str]) -> Value {
        let mut config = Map::new();
        for instruction in instructions {
            apply(&mut config, instruction).unwrap();
        }
        Value::Object(config)
    }

    #[test]
    fn instructions_change_the_configuration() {
        for (instructions, expected) in [
            (&["CMD [\"a\", \"b c\"]"][..], json!({"Cmd": ["a", "b c"]})),
            (&["cmd a b"], json!({"Cmd": ["/bin/sh", "-c", "a b"]})),
            (
                &["ENTRYPOINT [\"x\"]", "USER 1:2"],
                json!({"Entrypoint": ["x"], "User": "1:2"}),
            ),
            (
                &[
                    "ENV A=1 B=\"x y\" C='z w' D=a\\ b",
                    "ENV A=2",
                    "ENV E some words",
                ],
                json!({"Env": ["A=2", "B=x y", "C=z w", "D=a b", "E=some words"]}),
            ),
            (
                &["LABEL a.b=c \"d e\"=f"],
                json!({"Labels": {"a.b": "c", "d e": "f"}}),
            ),
            (
                &["EXPOSE 80 53/UDP"],
                json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}),
            ),
            (
                &["VOLUME /a /b", "VOLUME [\"/c d\"]"],
                json!({"Volumes": {"/a": {}, "/b": {}, "/c d": {}}}),
            ),
            (&["WORKDIR a", "WORKDIR b"], json!({"WorkingDir": "/a/b"})),
            (&["WORKDIR /x"], json!({"WorkingDir": "/x"})),
            (
                &["STOPSIGNAL SIGINT", "ONBUILD RUN x"],
                json!({"StopSignal": "SIGINT", "OnBuild": ["RUN x"]}),
            ),
            (
                &["HEALTHCHECK --interval=5s --retries=2 CMD true"],
                json!({"Healthcheck": {"Interval": 5_000_000_000_i64, "Retries": 2, "Test": ["CMD-SHELL", "true"]}}),
            ),
            (
                &["HEALTHCHECK NONE"],
                json!({"Healthcheck": {"Test": ["NONE"]}}),
            ),
        ] {
            assert_eq!(applied(instructions), expected, "{instructions:?}");
        }
    }

    #[test]
    fn bad_instructions_are_explained() {
        for (instruction, problem) in [
            ("", "requires at least one argument"),
            ("RUN x", "RUN is not a valid change command"),
            ("CMD", "CMD requires at least one argument"),
            ("ENV A", "must have two arguments"),
            ("ENV A=1 B", "is not NAME=value"),
            ("LABEL a=\"x", "not closed"),
            ("EXPOSE http", "invalid port"),
            ("SHELL sh", "JSON list"),
            ("HEALTHCHECK --interval=x CMD y", "bad duration"),
            ("HEALTHCHECK true", "must be NONE"),
        ] {
            let error = apply(&mut Map::new(), instruction).unwrap_err().to_string();
            assert!(error.contains(problem), "{instruction:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn instructions_never_panic(text in "(ENV|LABEL|CMD|HEALTHCHECK|EXPOSE|VOLUME)? ?\\PC{0,30}") {
            let _ = apply(&mut Map::new(), &text);
        }
    }
}
