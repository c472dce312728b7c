//! Words that are no command of hull's: docker's that are not there yet, and mistakes.

use std::ffi::OsString;
use std::process::ExitCode;

use super::failure::Failure;

/// Docker's commands that hull does not have yet.
const NOT_YET: [&str; 32] = [
    "build", "builder", "buildx", "commit", "compose", "config", "context", "cp", "diff", "events",
    "login", "logout", "manifest", "network", "node", "pause", "plugin", "port", "rename",
    "restart", "search", "secret", "serve", "service", "stack", "stats", "swarm", "system", "top",
    "unpause", "update", "volume",
];

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
