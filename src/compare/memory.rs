//! The memory of processes: what each has for itself, and its share of what several have.

use std::collections::BTreeMap;
use std::fs;

/// Bytes that a process and all below it take, shared pages divided among those that share them.
pub fn of_tree(root: i32) -> u64 {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let names = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    for pid in names.filter_map(|name| name.file_name().to_str()?.parse::<i32>().ok()) {
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut sum = 0;
    let mut waiting = vec![root];
    while let Some(pid) = waiting.pop() {
        sum += share(pid).unwrap_or(0);
        waiting.extend(children.remove(&pid).unwrap_or_default());
    }
    sum
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, can hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

fn share(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
