//! What the host is, for `info`.

use std::fs;

/// A few facts about the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The release of its kernel.
    pub kernel: String,
    /// Its distribution.
    pub system: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
}

/// Asks the kernel and the distribution; what cannot be found out stays empty.
pub fn host() -> Host {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let trimmed = |path: &str| read(path).trim().to_owned();
    Host {
        name: trimmed("/proc/sys/kernel/hostname"),
        kernel: trimmed("/proc/sys/kernel/osrelease"),
        system: pretty_name(&read("/etc/os-release")),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory: total_memory(&read("/proc/meminfo")),
    }
}

fn pretty_name(release: &str) -> String {
    let line = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    line.unwrap_or_default().trim_matches('"').to_owned()
}

fn total_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_host_are_understood() {
        assert_eq!(
            pretty_name("ID=x\nPRETTY_NAME=\"Debian 12\"\n"),
            "Debian 12"
        );
        assert_eq!(total_memory("MemTotal:  2048 kB\nMemFree: 1 kB\n"), 2 << 20);
        assert_eq!((pretty_name(""), total_memory("x")), (String::new(), 0));
        let host = host();
        assert!(host.cpus > 0 && host.memory > 0 && !host.kernel.is_empty());
    }
}
