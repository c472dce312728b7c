//! Words that are no command of hull's: docker's that are not there yet, and mistakes.

use std::ffi::OsString;
use std::process::ExitCode;

use super::failure::Failure;

/// Docker's commands that hull does not have yet.
const NOT_YET: [&str; 15] = [
    "compose", "config", "context", "login", "logout", "manifest", "node", "plugin", "search",
    "secret", "serve", "service", "stack", "swarm", "system",
];

/// Options of docker's `run` and `create` that hull does not have yet.
const OPTIONS_NOT_YET: [&str; 25] = [
    "--annotation",
    "--blkio-weight",
    "--cgroup-parent",
    "--cgroupns",
    "--cpu-period",
    "--cpu-quota",
    "--cpu-shares",
    "--cpuset-cpus",
    "--device",
    "--device-cgroup-rule",
    "--device-read-bps",
    "--device-write-bps",
    "--domainname",
    "--gpus",
    "--ipc",
    "--label-file",
    "--log-opt",
    "--memory-swap",
    "--mount",
    "--pid",
    "--runtime",
    "--storage-opt",
    "--use-api-socket",
    "--uts",
    "--volumes-from",
];

/// Whether `argument` is such an option.
pub fn is_option_not_yet(argument: &str) -> bool {
    let name = argument.split('=').next().unwrap_or(argument);
    OPTIONS_NOT_YET.contains(&name)
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
        assert!(is_option_not_yet("--mount=type=bind") && is_option_not_yet("--ipc"));
        assert!(!is_option_not_yet("--restrat") && !is_option_not_yet("-q"));
    }
}
