//! Instructions that change what containers are started with, and no files.

use serde_json::{Map, Value, json};

use crate::build::dockerfile::{Command, Health};

/// Sets an environment variable in its place, or at the end.
pub fn set_env(config: &mut Map<String, Value>, name: &str, value: &str) {
    let new = Value::from(format!("{name}={value}"));
    let prefix = format!("{name}=");
    let same = |it: &&mut Value| it.as_str().is_some_and(|it| it.starts_with(&prefix));
    with_list(config, "Env", |env| match env.iter_mut().find(same) {
        Some(known) => *known = new,
        None => env.push(new),
    });
}

/// Changes the list under `key`, which is made when it is not there.
pub fn with_list(config: &mut Map<String, Value>, key: &str, change: impl FnOnce(&mut Vec<Value>)) {
    let slot = config.entry(key).or_insert(Value::Null);
    let mut items = match slot.take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    change(&mut items);
    *slot = Value::Array(items);
}

/// Puts an entry into the object under `outer`, which is made when it is not there; entries are
/// sorted, as docker has them.
pub fn put(config: &mut Map<String, Value>, outer: &str, key: String, value: Value) {
    let slot = config.entry(outer).or_insert(Value::Null);
    let mut map = match slot.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    map.insert(key, value);
    map.sort_keys();
    *slot = Value::Object(map);
}

/// The words of a command; a line is for the shell.
pub fn words(command: &Command, shell: &[String]) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(line) if line.is_empty() => Vec::new(),
        Command::Shell(line) => {
            let mut words = shell.to_vec();
            words.push(line.clone());
            words
        }
    }
}

/// Sets or, when it is empty, removes a list.
pub fn set_list(config: &mut Map<String, Value>, key: &str, words: Vec<String>) {
    match words.is_empty() {
        true => drop(config.shift_remove(key)),
        false => drop(config.insert(key.to_owned(), words.into())),
    }
}

/// The form of a health check in a configuration.
pub fn health(check: Option<&Health>) -> Value {
    let Some(check) = check else {
        return json!({"Test": ["NONE"]});
    };
    let mut test = Vec::new();
    match &check.command {
        Command::Exec(words) => {
            test.push("CMD".to_owned());
            test.extend(words.iter().cloned());
        }
        Command::Shell(line) => test.extend(["CMD-SHELL".to_owned(), line.clone()]),
    }
    let mut health = Map::new();
    health.insert("Test".to_owned(), test.into());
    for key in [
        "Interval",
        "Timeout",
        "StartPeriod",
        "StartInterval",
        "Retries",
    ] {
        let found = check.fields.iter().find(|(name, _)| *name == key);
        if let Some((_, value)) = found.filter(|(_, value)| *value != 0) {
            health.insert(key.to_owned(), (*value).into());
        }
    }
    Value::Object(health)
}

/// The keys of exposed ports: `80`, `80/udp`, `8000-8010`.
pub fn ports(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("invalid port {text:?}, use for example 80, 53/udp or 8000-8010");
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!(
            "invalid protocol in port {text:?}, use tcp, udp or sctp"
        ));
    }
    // As docker: what stands before a colon is for the host, and no image has a host.
    let numbers = numbers.rsplit(':').next().unwrap_or(numbers);
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

/// An absolute path without `.`, `..` and doubled slashes.
pub fn clean(base: &str, path: &str) -> String {
    let whole = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{base}/{path}"),
    };
    let mut names: Vec<&str> = Vec::new();
    for name in whole.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_what_docker_writes() {
        let mut config = Map::new();
        set_env(&mut config, "A", "1");
        set_env(&mut config, "B", "x=y");
        set_env(&mut config, "A", "2");
        assert_eq!(config["Env"], json!(["A=2", "B=x=y"]));
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(
            ports("8000-8002/UDP").unwrap(),
            ["8000/udp", "8001/udp", "8002/udp"]
        );
        for wrong in ["", "x", "80/x", "3-2", "70000", "80-"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
        assert_eq!(clean("/a/b", "../c//./d/"), "/a/c/d");
        assert_eq!(clean("/a", "/"), "/");
        assert_eq!(clean("/", "../../x"), "/x");
        let shell = ["/bin/sh".to_owned(), "-c".to_owned()];
        assert_eq!(
            words(&Command::Shell("a b".into()), &shell),
            ["/bin/sh", "-c", "a b"]
        );
    }
}
