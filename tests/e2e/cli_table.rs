//! The table of commands and flags in docs/cli.md is what `hull --help` says, and leaves
//! nothing of docker's out.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::harness::{Hull, repository};

/// What the table says of one command.
#[derive(Debug, Default)]
struct Entry {
    /// Flags that there are, whatever differs.
    there: BTreeSet<String>,
    not_yet: BTreeSet<String>,
    /// The command itself is not there.
    missing: bool,
    /// It is none of docker's.
    own: bool,
}

/// What stands in backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn table() -> BTreeMap<String, Entry> {
    let text = std::fs::read_to_string(repository().join("docs/cli.md")).unwrap();
    let begin = text.find("## Every command and flag").unwrap();
    let text = &text[begin..];
    let end = text.match_indices("\n## ").next().unwrap().0;
    let mut table: BTreeMap<String, Entry> = BTreeMap::new();
    for row in text[..end].lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", commands, state, flags, _, ""] = cells[..] else {
            panic!("four cells: {row}");
        };
        for command in quoted(commands) {
            let entry = table.entry(command).or_default();
            let flags = quoted(flags);
            match state {
                "works" | "differs" => entry.there.extend(flags),
                "hull's own" => {
                    entry.own |= flags.is_empty();
                    entry.there.extend(flags);
                }
                "not yet" if flags.is_empty() => entry.missing = true,
                "not yet" => entry.not_yet.extend(flags),
                other => panic!("{other:?} is no state: {row}"),
            }
        }
    }
    table
}

/// The long flags in the text of a `--help`.
fn flags(help: &str) -> BTreeSet<String> {
    let flag = |line: &str| {
        let line = line.trim_start();
        let long = match line.strip_prefix("--") {
            Some(_) => line,
            None => line.strip_prefix('-')?.get(1..)?.strip_prefix(", ")?,
        };
        let name: String = long
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        let named = name.len() > 2 && name.starts_with("--");
        (named && name != "--help" && name != "--version").then_some(name)
    };
    help.lines().filter_map(flag).collect()
}

/// The commands in the text of a `--help`.
fn commands(help: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in help.lines() {
        if line.ends_with("Commands:") {
            inside = true;
        } else if inside {
            match line
                .strip_prefix("  ")
                .filter(|line| !line.starts_with(' '))
            {
                Some(line) => {
                    let word = line.split_whitespace().next().unwrap_or_default();
                    found.push(word.trim_end_matches('*').to_owned());
                }
                None if line.trim().is_empty() => inside = false,
                None => {}
            }
        }
    }
    found
}

#[test]
fn the_table_is_what_help_says() {
    let hull = Hull::shared();
    let table = table();
    assert!(table.len() > 50, "{} commands", table.len());
    let mut wrong = Vec::new();
    for (command, entry) in &table {
        let words: Vec<&str> = command.split(' ').collect();
        if entry.missing {
            let done = hull.run(&words);
            if done.code == 0 {
                wrong.push(format!("{command} is there: {done:?}"));
            }
            continue;
        }
        let help = flags(&hull.ok(&[&words[..], &["--help"]].concat()));
        for flag in help.difference(&entry.there) {
            wrong.push(format!("{command} {flag} is not in the table"));
        }
        for flag in entry.there.difference(&help) {
            wrong.push(format!("{command} {flag} is not in the help"));
        }
        for flag in entry.not_yet.intersection(&help) {
            wrong.push(format!("{command} {flag} is there"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_is_in_the_table() {
    let hull = Hull::shared();
    let table = table();
    let groups = [
        "container",
        "image",
        "volume",
        "network",
        "system",
        "kernel",
        "builder",
        "buildx",
    ];
    let mut wrong = Vec::new();
    let mut check = |command: String| {
        if !table.contains_key(&command) {
            wrong.push(format!("{command} is not in the table"));
        }
    };
    for command in commands(&hull.ok(&["--help"])) {
        if !groups.contains(&command.as_str()) && command != "help" {
            check(command);
        }
    }
    for group in groups {
        let done = hull.run(&[group, "--help"]);
        for command in commands(&done.stdout) {
            // What is also at the top level is there in the table.
            let top = match (group, command.as_str()) {
                ("container", "ls") => "ps",
                ("image", "ls") => "images",
                ("image", "rm") => "rmi",
                ("buildx", "prune") => "builder prune",
                ("image", "stack") => "image stack",
                (_, command) => command,
            };
            if command != "help" && !(table.contains_key(top) && command != "inspect") {
                check(format!("{group} {command}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where docker's command line is installed, the table is compared with it.
#[test]
fn the_table_leaves_nothing_of_dockers_out() {
    let docker = |words: &[&str]| {
        let done = Command::new("docker").args(words).arg("--help").output();
        done.ok()
            .map(|done| String::from_utf8_lossy(&done.stdout).into_owned())
    };
    let table = table();
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (command, entry) in table.iter().filter(|(_, entry)| !entry.own) {
        let words: Vec<&str> = command.split(' ').collect();
        let Some(help) = docker(&words) else { return };
        compared += 1;
        // Of what it does not know docker tells about itself.
        if entry.missing || !help.starts_with(&format!("Usage:  docker {command}")) {
            continue;
        }
        for flag in flags(&help) {
            if !entry.there.contains(&flag) && !entry.not_yet.contains(&flag) {
                wrong.push(format!("{command} {flag}"));
            }
        }
    }
    assert!(compared > 40, "{compared}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
