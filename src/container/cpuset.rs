//! `--cpuset-cpus`: which of the host's processors may run a guest.

use std::collections::BTreeSet;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// A list that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCpus {
    /// Not of the form.
    #[error("invalid list of CPUs {0:?}, use numbers and ranges, as in 0-3 or 0,2")]
    Form(String),
    /// Not there.
    #[error("requested CPUs are not available - requested {requested}, available: {available}")]
    Unavailable {
        /// What was asked for.
        requested: String,
        /// What there is.
        available: String,
    },
}

/// The numbers in `0-3,5`.
pub fn parse(text: &str) -> Result<BTreeSet<usize>, InvalidCpus> {
    let wrong = || InvalidCpus::Form(text.to_owned());
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= CpuSet::count() {
            return Err(wrong());
        }
        numbers.extend(first..=last);
    }
    Ok(numbers)
}

/// Refuses what this process could not use.
pub fn check(text: &str) -> Result<(), InvalidCpus> {
    let available = available();
    if parse(text)?.is_subset(&available) {
        return Ok(());
    }
    let shown: Vec<String> = available.iter().map(usize::to_string).collect();
    Err(InvalidCpus::Unavailable {
        requested: text.to_owned(),
        available: shown.join(","),
    })
}

fn available() -> BTreeSet<usize> {
    let own = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let is_set = |cpu: &usize| own.is_set(*cpu).unwrap_or(false);
    (0..CpuSet::count()).filter(is_set).collect()
}

/// Keeps this thread, and every process and thread that it makes, to these processors.
pub fn keep_to(text: &str) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in parse(text).map_err(std::io::Error::other)? {
        set.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_docker_reads_them() {
        assert_eq!(parse("0-2,5").unwrap(), BTreeSet::from([0, 1, 2, 5]));
        assert_eq!(parse("1").unwrap(), BTreeSet::from([1]));
        for bad in ["", "a", "2-1", "1,", "-1", "99999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let first = available().first().copied().unwrap();
        assert_eq!(check(&first.to_string()), Ok(()));
        let missing = check("1000").unwrap_err();
        assert!(matches!(missing, InvalidCpus::Unavailable { .. }));
    }
}
