//! What the command line gives to a build: arguments, labels, secrets, SSH agents.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::{env, fs};

use anyhow::Context as _;

/// The longest secret, docker's own limit.
const MAX_SECRET: usize = 500 << 10;

/// `NAME=VALUE`; the value can be missing.
pub fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// Build arguments; one without a value is the environment's, and nothing when that has none.
pub fn arguments(given: &[String]) -> BTreeMap<String, String> {
    let known = given.iter().filter_map(|text| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.clone(), env::var(text).ok()?)),
    });
    known.collect()
}

/// What `--secret` names, by id.
pub fn secrets(given: &[String]) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut secrets = BTreeMap::new();
    for text in given {
        let mut fields: BTreeMap<&str, &str> = text
            .split(',')
            .filter_map(|field| field.split_once('='))
            .collect();
        let id = fields.remove("id");
        let id = id.with_context(|| format!("--secret {text} needs an id=NAME"))?;
        let path = fields.remove("src").or_else(|| fields.remove("source"));
        let variable = fields.remove("env");
        let kind = fields.remove("type");
        anyhow::ensure!(
            fields.is_empty() && matches!(kind, None | Some("file" | "env")),
            "--secret {text}: it is id=NAME, src=FILE and env=VARIABLE"
        );
        let content = match (path, variable) {
            (Some(path), None) => {
                fs::read(path).with_context(|| format!("reading secret {id} from {path}"))?
            }
            (None, Some(variable)) => env::var(variable)
                .with_context(|| format!("reading secret {id} from ${variable}"))?
                .into_bytes(),
            // As docker: a variable of that name, else a file.
            (None, None) => match env::var(id) {
                Ok(value) => value.into_bytes(),
                Err(_) => fs::read(id)
                    .with_context(|| format!("reading secret {id} from a file of that name"))?,
            },
            (Some(_), Some(_)) => anyhow::bail!("--secret {text}: give src or env, not both"),
        };
        anyhow::ensure!(
            content.len() <= MAX_SECRET,
            "secret {id} is too long, the limit is 500 KiB"
        );
        secrets.insert(id.to_owned(), content);
    }
    Ok(secrets)
}

/// What `--ssh` names: the sockets of agents, by id.
pub fn agents(given: &[String]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut agents = BTreeMap::new();
    for text in given {
        let (id, place) = text.split_once('=').unwrap_or((text, ""));
        let path = match place {
            "" => PathBuf::from(env::var_os("SSH_AUTH_SOCK").filter(|it| !it.is_empty()).with_context(
                || format!("--ssh {text}: there is no SSH agent (SSH_AUTH_SOCK is not set), start one or give {id}=SOCKET"),
            )?),
            place => PathBuf::from(place),
        };
        let metadata = fs::metadata(&path)
            .with_context(|| format!("--ssh {text}: looking at {}", path.display()))?;
        anyhow::ensure!(
            metadata.file_type().is_socket(),
            "--ssh {text}: {} is no agent's socket; give keys to an agent with ssh-add",
            path.display()
        );
        agents.insert(id.to_owned(), path);
    }
    Ok(agents)
}
