//! Words that are no command of hull's: docker's that are not there yet, and mistakes.

use std::ffi::OsString;
use std::process::ExitCode;

use super::failure::Failure;

/// Docker's commands that hull does not have yet.
const NOT_YET: [&str; 12] = [
    "checkpoint",
    "config",
    "context",
    "manifest",
    "node",
    "plugin",
    "search",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
];

/// Options of docker's `run` and `create` that hull does not have yet.
const OPTIONS_NOT_YET: [&str; 3] = ["--link-local-ip", "--runtime", "--use-api-socket"];

/// Options of docker's that a guest cannot have.
const OF_DEVICES: [&str; 3] = ["--device", "--device-cgroup-rule", "--gpus"];

/// One line about an option of docker's that hull does not have; none about a mistake.
pub fn option_sentence(argument: &str) -> Option<String> {
    let name = argument.split('=').next().unwrap_or(argument);
    if OF_DEVICES.contains(&name) {
        let why = "devices of the host cannot be given to a guest, which has a kernel of its own";
        return Some(format!("option {name} is not there: {why}"));
    }
    let known = OPTIONS_NOT_YET.contains(&name);
    known.then(|| format!("option {name} is not there yet"))
}

/// One line that says so, and docker's exit code.
pub fn explain(words: &[OsString]) -> anyhow::Result<ExitCode> {
    let word = words
        .first()
        .map(|word| word.to_string_lossy().into_owned())
        .unwrap_or_default();
    if NOT_YET.contains(&word.as_str()) {
        return Err(Failure::new(125, format!("{word} is not there yet")).into());
    }
    let message = format!("{word:?} is not a hull command, see hull --help");
    Err(Failure::new(1, message).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_options_are_told_from_mistakes() {
        for known in ["--runtime=runc", "--gpus=all"] {
            assert!(option_sentence(known).is_some(), "{known}");
        }
        for mistake in ["--restrat", "-q", "--devices"] {
            assert!(option_sentence(mistake).is_none(), "{mistake}");
        }
    }
}
