//! The container's processes and what it uses, as the guest's kernel counts it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use guest_agent::protocol::{ProcessInfo, Usage};

use super::say;

/// The kernel's unit of processor time, which is the same on every architecture.
const TICKS_PER_SECOND: u64 = 100;

/// Pages of every architecture that hull boots.
const PAGE: u64 = 4096;

/// One line of JSON per process in the group and in those below it.
pub(super) fn processes(cgroup: &Path, output: File) -> io::Result<()> {
    let mut members = Vec::new();
    collect(cgroup, &mut members)?;
    members.sort_unstable();
    let uptime = fs::read_to_string("/proc/uptime")?;
    let uptime: f64 = uptime
        .split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.0);
    let mut output = BufWriter::new(output);
    let inner: HashMap<i32, i32> = members
        .iter()
        .filter_map(|pid| Some((*pid, number_inside(*pid)?)))
        .collect();
    for pid in members {
        // A process may end at any moment.
        if let Some(info) = describe(pid, &inner, uptime as u64) {
            say(&mut output, &info)?;
        }
    }
    output.flush()
}

fn collect(group: &Path, members: &mut Vec<i32>) -> io::Result<()> {
    let listed = fs::read_to_string(group.join("cgroup.procs"))?;
    members.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), members)?;
        }
    }
    Ok(())
}

/// A process's number in the innermost namespace.
fn number_inside(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

fn describe(pid: i32, inner: &HashMap<i32, i32>, uptime: u64) -> Option<ProcessInfo> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut info = parse_stat(&stat)?;
    info.pid = *inner.get(&pid)?;
    info.parent = inner.get(&info.parent).copied().unwrap_or(0);
    info.uptime = uptime;
    info.uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0);
    let words: Vec<_> = arguments
        .split(|&b| b == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    info.arguments = match words.is_empty() {
        true => format!("[{}]", info.command),
        false => words.join(" "),
    };
    Some(info)
}

/// What `/proc/PID/stat` says; the number of the parent is the guest's.
fn parse_stat(stat: &str) -> Option<ProcessInfo> {
    // The name is in parentheses and may hold some itself.
    let (front, rest) = stat.rsplit_once(')')?;
    let (_, command) = front.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let terminal = number(4)?;
    let ticks = number(11)?.saturating_add(number(12)?);
    Some(ProcessInfo {
        parent: fields.get(1)?.parse().ok()?,
        state: (*fields.first()?).to_owned(),
        tty: match terminal {
            0 => -1,
            number => i32::try_from((number & 0xff) | ((number >> 12) & 0xf_ff00)).ok()?,
        },
        cpu_ms: ticks.saturating_mul(1000 / TICKS_PER_SECOND),
        started: number(19)? / TICKS_PER_SECOND,
        virtual_size: number(20)?,
        resident: number(21)?.saturating_mul(PAGE),
        command: command.to_owned(),
        ..ProcessInfo::default()
    })
}

/// What the group uses, and what went over the guest's disks and networks.
pub(super) fn usage(cgroup: &Path) -> io::Result<Usage> {
    let read = |name: &str| fs::read_to_string(cgroup.join(name)).unwrap_or_default();
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
    let field = |text: &str, key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(k, _)| *k == key).map_or(0, |(_, v)| number(v))
    };
    let reclaimable = field(&read("memory.stat"), "inactive_file");
    let mut usage = Usage {
        cpu_us: field(&read("cpu.stat"), "usage_usec"),
        cpus: u32::try_from(std::thread::available_parallelism()?.get()).unwrap_or(1),
        memory: number(&read("memory.current")).saturating_sub(reclaimable),
        pids: number(&read("pids.current")),
        ..Usage::default()
    };
    for line in fs::read_to_string("/proc/net/dev")?.lines() {
        let Some((name, counts)) = line.split_once(':') else {
            continue;
        };
        let counts: Vec<u64> = counts.split_whitespace().map(number).collect();
        if name.trim() != "lo"
            && let (Some(received), Some(sent)) = (counts.first(), counts.get(8))
        {
            usage.received += received;
            usage.sent += sent;
        }
    }
    for line in fs::read_to_string("/proc/diskstats")?.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let sectors = |index: usize| fields.get(index).map_or(0, |text| number(text));
        // Partitions are counted with their disk.
        let name = fields.get(2).copied().unwrap_or_default();
        if Path::new("/sys/block").join(name).exists() {
            usage.read += sectors(5) * 512;
            usage.written += sectors(9) * 512;
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read() {
        let line = "12 (a (b) c) S 1 12 12 34816 12 0 0 0 0 0 150 50 0 0 20 0 1 0 300 8192 7 0";
        let info = parse_stat(line).unwrap();
        assert_eq!(
            (
                info.command.as_str(),
                info.parent,
                info.tty,
                info.state.as_str()
            ),
            ("a (b) c", 1, 0, "S")
        );
        assert_eq!((info.cpu_ms, info.started), (2000, 3));
        assert_eq!((info.virtual_size, info.resident), (8192, 7 * PAGE));
        for broken in ["", "1", "1 (x", "1 (x) S", "1 (x) S a b c"] {
            assert!(parse_stat(broken).is_none());
        }
    }

    #[test]
    fn this_process_is_found_in_its_own_group() {
        let own = std::process::id() as i32;
        let inner = HashMap::from([(own, 1)]);
        let info = describe(own, &inner, 10).unwrap();
        assert_eq!((info.pid, info.uptime), (1, 10));
        assert!(!info.arguments.is_empty() && info.resident > 0);
    }
}
