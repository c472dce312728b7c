//! `kill -9` of a build or of its machines at any moment loses no finished step and leaves
//! nothing.
//!
//! `HULL_CRASH_ROUNDS` and `HULL_CRASH_SEED` are as for the matrix of containers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Project;
use crate::harness::{Hull, alive, eventually};
use crate::matrix::{Dice, number};

const ROUNDS: u64 = 50;
/// The longest wait before a kill, in milliseconds: longer than most of these builds take.
const LATEST: u64 = 1200;

fn dockerfile(round: u64) -> String {
    format!(
        "FROM busybox AS a\nCOPY files /files\nRUN --mount=type=cache,target=/c echo {round} > /a; cat /a >> /c/seen\nRUN cat /a /files/* > /a2; sync\n\
         FROM busybox AS b\nADD archive.tar /t\nRUN echo {round} b > /b; head -c 300000 /dev/zero > /zero\nWORKDIR /w/{round}\nRUN wc -c /zero >> /b\n\
         FROM busybox\nCOPY --from=a /a2 /\nCOPY --from=b /b /zero /\nRUN cat /a2 /b > /end; tail -n 2 /end\n"
    )
}

/// All processes that this one made and they made.
fn family(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten();
        for task in tasks.filter_map(Result::ok) {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            );
        }
        at += 1;
    }
    found
}

/// The images of the commands that a record says were done.
fn done(record: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_run = false;
    for line in record.lines() {
        if line.starts_with("Step ") {
            is_run = line.contains(" : RUN ");
        }
        let id = line.strip_prefix(" ---> ").and_then(|rest| rest.get(..12));
        if let Some(id) = id.filter(|id| is_run && id.bytes().all(|b| b.is_ascii_hexdigit())) {
            found.insert(id.to_owned());
        }
    }
    found
}

#[test]
fn kills_at_random_moments_lose_no_finished_step() {
    let seed = number("HULL_CRASH_SEED", u64::from(std::process::id()) << 20 | 1);
    let mut dice = Dice(seed);
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    let project = Project::new("", &[]);
    for number in 0..100 {
        project.write(&format!("files/{number}"), "some text\n");
    }
    let tar = std::process::Command::new("tar")
        .args(["-cf", "archive.tar", "files"])
        .current_dir(project.path())
        .status();
    assert!(tar.unwrap().success());
    let record = tempfile::NamedTempFile::new().unwrap();
    let (mut killed, mut kept) = (0, 0);
    for round in 0..number("HULL_CRASH_ROUNDS", ROUNDS) {
        project.write("Dockerfile", &dockerfile(round));
        let mut build = hull
            .command(&["build", project.path().to_str().unwrap()])
            .stdout(File::create(record.path()).unwrap())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(dice.below(LATEST)));
        let family = family(build.id() as i32);
        let victim = match dice.below(2) {
            0 => family[0],
            _ => family[dice.below(family.len() as u64) as usize],
        };
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
        let ended = build.wait().unwrap();
        let place = format!("seed {seed}, round {round}, {ended}");
        killed += u32::from(!ended.success());
        eventually(&format!("{place}: machines end"), || {
            family.iter().all(|pid| !alive(*pid))
        });
        // Whoever opens the store tidies it up.
        let listed = hull.ok(&["images", "-a", "-q"]);
        let left: Vec<_> = fs::read_dir(hull.root().join("tmp"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "{place}: {left:?}");
        let members = [
            "network",
            "inspect",
            "--format",
            "{{json .Containers}}",
            "bridge",
        ];
        assert_eq!(hull.ok(&members), "{}", "{place}");
        let before = done(&fs::read_to_string(record.path()).unwrap());
        for id in &before {
            assert!(
                listed.contains(id.as_str()),
                "{place}: {id} is not in {listed}"
            );
        }
        let out = project.build(&hull, &[]);
        for id in before {
            kept += 1;
            let again = format!(" ---> Using cache\n ---> {id}");
            assert!(out.contains(&again), "{place}: {id} was done again: {out}");
        }
    }
    assert!(
        killed > 0 && kept > 0,
        "nothing was tried: {killed}, {kept}"
    );
    // What all of it gave is what a build that nobody disturbs gives.
    let id = project.id(&hull, &[]);
    let end = hull.ok(&["run", "--rm", &id, "tail", "-n", "2", "/end"]);
    assert!(end.ends_with(" b\n300000 /zero"), "{end}");
    let cache = fs::read_dir(hull.root().join("build-cache"))
        .unwrap()
        .count();
    assert!(cache > 0);
    assert_eq!(project.id(&Hull::fresh(), &[]), id);
}
